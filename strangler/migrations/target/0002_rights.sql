-- Rights. The home's role executes functions and sees no table.
revoke execute on all functions in schema strangler from public;

-- Lets a login role write keys at this home.
create function strangler.grant_home(role name) returns void
language plpgsql set search_path = pg_catalog, pg_temp as $$
begin
    execute format('grant usage on schema strangler to %I', $1);
    execute format('grant execute on function strangler.born(text, text, bigint),
        strangler.lock_authority(text, text), strangler.holds(text, text) to %I', $1);
end $$;

revoke execute on function strangler.grant_home(name) from public;
