-- A hold or a rollback breaks a business cycle until it is over, and not only in the moment in which it began: what lifts a hold, or enters a
-- stage again that was being rolled back, is a line of its own, from a stage to the same one. A repair changes no policy.
create or replace function strangler.unbroken_since(migration text) returns timestamptz
language plpgsql stable set search_path = pg_catalog, pg_temp as $$
begin
    return (select max(h.at) from strangler.history h where h.migration = $1 and h.action <> 'repair');
end $$;
