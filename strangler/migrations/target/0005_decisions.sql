-- Whether this home may write any key: while it may not, it has no client of its provider.

create index authority_writable on strangler.authority (migration) where writable;

create function strangler.holds_any(migration text) returns boolean
language sql stable security definer set search_path = pg_catalog, pg_temp as $$
    select exists (select from strangler.authority a where a.migration = $1 and a.writable)
$$;

-- What a home needs beside `strangler.grant_home`.
create function strangler.grant_holdings(role name) returns void
language plpgsql set search_path = pg_catalog, pg_temp as $$
begin
    execute format('grant execute on function strangler.holds_any(text) to %I', $1);
end $$;

revoke execute on function strangler.holds_any(text), strangler.grant_holdings(name) from public;
