-- Hand-over of existing keys, at the target. The steps are those of the table in the crate (`handover::target::STEPS`).

-- As lock_authority, for what ends something begun before: a recalled key may still be settled, and is `writable` then.
create function strangler.lock_outcome(migration text, key text, out verdict text, out epoch bigint)
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare
    stored strangler.authority;
begin
    select a.* into stored from strangler.authority a where a.migration = $1 and a.key = $2 for share nowait;
    verdict := case
        when stored.key is null then 'missing'
        when not stored.writable then 'fenced'
        else 'writable'
    end;
    epoch := coalesce(stored.epoch, 0);
end $$;

-- Notes an offer of the source's, in the transaction that applies it. Verdicts:
--   noted    the key may be granted, at a later epoch    stale   of an epoch that is over
--   foreign  this home may write the key: two owners wrote
create function strangler.offered(migration text, key text, epoch bigint) returns text
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare
    stored strangler.authority;
begin
    -- step "first offer"
    insert into strangler.authority (migration, key, epoch, writable) values ($1, $2, $3, false)
    on conflict on constraint authority_pkey do nothing;
    if found then
        return 'noted';
    end if;
    select a.* into stored from strangler.authority a where a.migration = $1 and a.key = $2 for update;
    if stored.writable then
        return 'foreign';
    end if;
    if $3 <= stored.epoch then
        return 'stale';
    end if;
    -- step "offer"
    update strangler.authority a set epoch = $3, changed_at = clock_timestamp() where a.migration = $1 and a.key = $2;
    return 'noted';
end $$;

-- The rows of these keys, without a lock; none for a key that never came here.
create function strangler.find_authority(migration text, keys text[])
returns table (key text, epoch bigint, writable boolean, recall_epoch bigint)
language plpgsql stable security definer set search_path = pg_catalog, pg_temp as $$
#variable_conflict use_column
begin
    return query
    select a.key, a.epoch, a.writable, a.recall_epoch from strangler.authority a
    where a.migration = $1 and a.key = any ($2);
end $$;

-- The rows of these keys, locked in key order until the transaction ends. It waits for writes under way: the caller sets a
-- lock timeout.
create function strangler.claim_authority(migration text, keys text[])
returns table (key text, epoch bigint, writable boolean, recall_epoch bigint)
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
#variable_conflict use_column
begin
    return query
    select a.key, a.epoch, a.writable, a.recall_epoch from strangler.authority a
    where a.migration = $1 and a.key = any ($2)
    order by a.key
    for update;
end $$;

-- Writes what a step made of a row that this transaction has claimed. An epoch never falls.
create function strangler.put_authority(migration text, key text, epoch bigint, writable boolean, recall_epoch bigint)
returns void
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
#variable_conflict use_column
begin
    update strangler.authority a set epoch = $3, writable = $4, recall_epoch = $5, changed_at = clock_timestamp()
    where a.migration = $1 and a.key = $2 and a.epoch <= $3;
    if not found then
        raise object_not_in_prerequisite_state using
            message = format('key %s of migration %s has a higher epoch than %s, or no authority row', $2, $1, $3);
    end if;
end $$;

-- Lets a login role write keys at this home, take them and give them up.
create or replace function strangler.grant_home(role name) returns void
language plpgsql set search_path = pg_catalog, pg_temp as $$
begin
    execute format('grant usage on schema strangler to %I', $1);
    execute format('grant execute on function strangler.born(text, text, bigint),
        strangler.lock_authority(text, text), strangler.lock_outcome(text, text), strangler.holds(text, text),
        strangler.offered(text, text, bigint), strangler.find_authority(text, text[]),
        strangler.claim_authority(text, text[]),
        strangler.put_authority(text, text, bigint, boolean, bigint) to %I', $1);
end $$;

revoke execute on function strangler.lock_outcome(text, text), strangler.offered(text, text, bigint),
    strangler.find_authority(text, text[]), strangler.claim_authority(text, text[]),
    strangler.put_authority(text, text, bigint, boolean, bigint) from public;
