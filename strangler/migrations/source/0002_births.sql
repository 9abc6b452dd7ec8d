-- Births, locks and questions, in the caller's transaction.

-- The written hash: the first eight bytes of sha256(salt || key) as an unsigned big-endian number, modulo 100. A key is born
-- at the target when its share is below the percent: so a higher percent only adds keys, it never takes one back.
create function strangler.share(salt text, key text) returns smallint
language plpgsql immutable strict parallel safe set search_path = pg_catalog, pg_temp as $$
declare
    digest bytea := sha256(convert_to($1 || $2, 'UTF8'));
    rest integer := 0;
begin
    for n in 0 .. 7 loop
        rest := (rest * 256 + get_byte(digest, n)) % 100;
    end loop;
    return rest;
end $$;

-- Where a policy lets a key be born.
create function strangler.birthplace(policy strangler.migration, tenant text, key text) returns text
language sql immutable set search_path = pg_catalog, pg_temp as $$
    select case
        when ($1).stage in ('primary', 'sealed', 'removed') then 'target'
        when ($1).stage = 'ramping' and ($2 = any (($1).tenants) or strangler.share(($1).salt, $3) < ($1).percent)
            then 'target'
        else 'source'
    end
$$;

-- Holds the policy still until the transaction ends: it can't change before this birth commits, and a birth waits for a
-- change under way. The advisory lock is a queue: a row lock alone lets ever new births pass a change that waits.
create function strangler.hold_policy(migration text) returns strangler.migration
language plpgsql set search_path = pg_catalog, pg_temp as $$
declare
    policy strangler.migration;
begin
    perform pg_advisory_xact_lock_shared(hashtext('strangler.migration'), hashtext($1));
    select m.* into policy from strangler.migration m where m.name = $1 for key share;
    if not found then
        raise undefined_object using
            message = format('migration %s is not defined', $1), hint = 'select strangler.define(migration)';
    end if;
    return policy;
end $$;

-- Decides where a new key lives and stores it. A key that has an owner keeps it: asking twice gives one answer.
create function strangler.assign(migration text, tenant text, key text, out owner text, out phase text, out epoch bigint)
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare
    policy strangler.migration := strangler.hold_policy($1);
    stored strangler.owner;
begin
    insert into strangler.owner as o (migration, key, tenant, owner, born_at, born_revision)
    values ($1, $3, $2, strangler.birthplace(policy, $2, $3), clock_timestamp(), policy.revision)
    on conflict on constraint owner_pkey do nothing
    returning o.* into stored;
    if not found then
        select o.* into stored from strangler.owner o where o.migration = $1 and o.key = $3;
        if stored.tenant <> $2 then
            raise unique_violation using message = format('key %s of migration %s belongs to another tenant', $3, $1);
        end if;
    end if;
    owner := stored.owner;
    phase := stored.phase;
    epoch := stored.epoch;
end $$;

-- Locks a key for a write by the source, until the transaction ends. A lock held by whoever moves the key raises 55P03
-- at once. Verdicts:
--   source   write, at this epoch         target    the target's to write
--   moving   between two owners: retry    missing   no owner is stored, though seeding is over
create function strangler.lock_owner(migration text, key text, out verdict text, out epoch bigint)
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare
    stored strangler.owner;
    policy strangler.migration;
begin
    select o.* into stored from strangler.owner o where o.migration = $1 and o.key = $2 for share nowait;
    if not found then
        -- Before seeding a missing row means the source. Hold the policy, so that seeding does not end before this write;
        -- then look again, for it may have passed here meanwhile.
        policy := strangler.hold_policy($1);
        select o.* into stored from strangler.owner o where o.migration = $1 and o.key = $2 for share nowait;
        if not found then
            verdict := case when policy.stage = 'local' then 'source' else 'missing' end;
            epoch := 1;
            return;
        end if;
    end if;
    verdict := case when stored.phase = 'settled' then stored.owner else 'moving' end;
    epoch := stored.epoch;
end $$;

-- The owner of a key, without a lock; no row for a key that has none. In `local` that means the source, at epoch 1.
create function strangler.find_owner(migration text, key text)
returns table (tenant text, owner text, phase text, epoch bigint)
language sql stable security definer set search_path = pg_catalog, pg_temp as $$
    select o.tenant, o.owner, o.phase, o.epoch from strangler.owner o where o.migration = $1 and o.key = $2
    union all
    select null, 'source', 'settled', 1 from strangler.migration m
    where m.name = $1 and m.stage = 'local'
      and not exists (select from strangler.owner o where o.migration = $1 and o.key = $2)
$$;
