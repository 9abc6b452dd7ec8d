-- As at the source: planned once a session, since it is asked for each foreign event.

-- Whether this home may write a key, without a lock.
create or replace function strangler.holds(migration text, key text) returns boolean
language plpgsql stable security definer set search_path = pg_catalog, pg_temp as $$
begin
    return exists (select from strangler.authority a where a.migration = $1 and a.key = $2 and a.writable);
end $$;
