-- Hand-over of existing keys, at the source. Each change of an owner row is a compare-and-swap, and one of the named steps of the
-- table in the crate (`handover::source::STEPS`).

-- When owner or phase last changed; null: not since the birth. Without a default no row is rewritten.
alter table strangler.owner add column changed_at timestamptz;

-- In key order, so that a batch is read from where the last one ended.
drop index strangler.owner_home;
create index owner_home on strangler.owner (migration, owner, phase, key);
-- Keys that were handed over, and of which the target has not confirmed that it knows. A birth needs no grant.
create index owner_granting on strangler.owner (migration, key)
    where owner = 'target' and phase = 'settled' and epoch > 1 and granted_epoch < epoch;

-- Keys that could not move, and why. They are looked at again after 1 s, 2 s, 4 s, at last each 60 s.
create table strangler.pinned (
    migration text not null references strangler.migration (name),
    key text not null check (octet_length(key) between 1 and 255),
    why text not null check (octet_length(why) between 1 and 500),
    since timestamptz not null default clock_timestamp(),
    looked_at timestamptz not null default clock_timestamp(),
    tries integer not null default 1,
    primary key (migration, key)
);

-- When a pinned key is looked at again.
create function strangler.look_again(pinned strangler.pinned) returns timestamptz
language plpgsql immutable set search_path = pg_catalog, pg_temp as $$
begin
    return ($1).looked_at + least(8, 2 ^ least(($1).tries - 1, 3)) * interval '1 second';
end $$;

-- Where a policy lets a key be born. One that is being rolled back lets none be born at the target.
create or replace function strangler.birthplace(policy strangler.migration, tenant text, key text) returns text
language plpgsql immutable set search_path = pg_catalog, pg_temp as $$
begin
    return case
        when ($1).draining then 'source'
        when ($1).stage in ('primary', 'sealed', 'removed') then 'target'
        when ($1).stage = 'ramping' and ($2 = any (($1).tenants) or strangler.share(($1).salt, $3) < ($1).percent)
            then 'target'
        else 'source'
    end;
end $$;

-- Locks those of the keys that are the source's and settled, in key order, until the transaction ends. A key that is being
-- written is left out. None, unless the policy hands keys over; it can't change before this transaction ends, so no key
-- leaves under an old one.
create function strangler.claim_settled(migration text, keys text[]) returns setof text
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare
    policy strangler.migration := strangler.hold_policy($1);
begin
    if policy.stage <> 'primary' or policy.draining or policy.held is not null then
        return;
    end if;
    return query
    select o.key from strangler.owner o
    where o.migration = $1 and o.key = any ($2) and o.owner = 'source' and o.phase = 'settled'
    order by o.key
    for update skip locked;
end $$;

-- Fences keys that this transaction has claimed and found quiet: from its commit on nobody writes them until the target is
-- ready or the move is given up. The caller publishes the offers, at these epochs.
create function strangler.fence(migration text, keys text[]) returns table (key text, epoch bigint)
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
#variable_conflict use_column
begin
    return query
    -- step "fence"
    update strangler.owner o set phase = 'moving', epoch = o.epoch + 1, changed_at = clock_timestamp()
    where o.migration = $1 and o.key = any ($2) and o.owner = 'source' and o.phase = 'settled'
    returning o.key, o.epoch;
end $$;

-- A release of the target's, in the transaction that applies it. Verdicts:
--   taken    the source's to write from here on        follow   of a recall that is not under way any more: the target's
--   foreign  nothing could release this key: two owners wrote
create function strangler.take_back(migration text, key text, epoch bigint) returns text
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare
    stored strangler.owner;
begin
    select o.* into stored from strangler.owner o where o.migration = $1 and o.key = $2 for update;
    if stored.owner is distinct from 'target' then
        return 'foreign';
    end if;
    if stored.phase = 'recalling' and stored.epoch = $3 then
        -- step "take back"
        update strangler.owner o
        set owner = 'source', phase = 'settled', epoch = o.epoch + 1, changed_at = clock_timestamp()
        where o.migration = $1 and o.key = $2;
        return 'taken';
    end if;
    -- steps "release of another recall", "release of a cancelled recall"
    return 'follow';
end $$;

-- Lets a login role hand keys over and take them back: the module that writes them at the source.
create function strangler.grant_mover(role name) returns void
language plpgsql set search_path = pg_catalog, pg_temp as $$
begin
    execute format('grant usage on schema strangler to %I', $1);
    execute format('grant execute on function strangler.claim_settled(text, text[]), strangler.fence(text, text[]),
        strangler.take_back(text, text, bigint) to %I', $1);
end $$;

-- Lets a login role run a controller. A key that is not pinned any more leaves no trace: it is the only thing it deletes.
create or replace function strangler.grant_controller(role name) returns void
language plpgsql set search_path = pg_catalog, pg_temp as $$
begin
    execute format('grant usage on schema strangler to %I', $1);
    execute format('grant select, update on strangler.migration to %I', $1);
    execute format('grant select, insert on strangler.history to %I', $1);
    execute format('grant select, insert, update on strangler.owner, strangler.seeding, strangler.lease to %I', $1);
    execute format('grant select, insert, update, delete on strangler.pinned to %I', $1);
    execute format('grant execute on function strangler.share(text, text), strangler.find_owner(text, text),
        strangler.birthplace(strangler.migration, text, text), strangler.look_again(strangler.pinned) to %I', $1);
end $$;

revoke execute on function strangler.look_again(strangler.pinned), strangler.claim_settled(text, text[]),
    strangler.fence(text, text[]), strangler.take_back(text, text, bigint), strangler.grant_mover(name) from public;
