-- Functions in language sql with settings of their own are planned anew at each call, those in plpgsql once a session. These
-- are called for each birth, and for each foreign event.

-- Where a policy lets a key be born.
create or replace function strangler.birthplace(policy strangler.migration, tenant text, key text) returns text
language plpgsql immutable set search_path = pg_catalog, pg_temp as $$
begin
    return case
        when ($1).stage in ('primary', 'sealed', 'removed') then 'target'
        when ($1).stage = 'ramping' and ($2 = any (($1).tenants) or strangler.share(($1).salt, $3) < ($1).percent)
            then 'target'
        else 'source'
    end;
end $$;

-- The owner of a key, without a lock; no row for a key that has none. In `local` that means the source, at epoch 1.
create or replace function strangler.find_owner(migration text, key text)
returns table (tenant text, owner text, phase text, epoch bigint)
language plpgsql stable security definer set search_path = pg_catalog, pg_temp as $$
#variable_conflict use_column
begin
    return query
    select o.tenant, o.owner, o.phase, o.epoch from strangler.owner o where o.migration = $1 and o.key = $2
    union all
    select null, 'source', 'settled', 1 from strangler.migration m
    where m.name = $1 and m.stage = 'local'
      and not exists (select from strangler.owner o where o.migration = $1 and o.key = $2);
end $$;
