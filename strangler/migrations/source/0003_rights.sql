-- Rights. Modules execute functions and see no table; the controller's role works on the tables, but never deletes.
revoke execute on all functions in schema strangler from public;

-- Lets a login role give births: the module that creates keys.
create function strangler.grant_assigner(role name) returns void
language plpgsql set search_path = pg_catalog, pg_temp as $$
begin
    execute format('grant usage on schema strangler to %I', $1);
    execute format('grant execute on function
        strangler.assign(text, text, text), strangler.find_owner(text, text) to %I', $1);
end $$;

-- Lets a login role lock keys and ask for owners: the module that writes them at the source.
create function strangler.grant_writer(role name) returns void
language plpgsql set search_path = pg_catalog, pg_temp as $$
begin
    execute format('grant usage on schema strangler to %I', $1);
    execute format('grant execute on function
        strangler.lock_owner(text, text), strangler.find_owner(text, text) to %I', $1);
end $$;

-- Lets a login role run a controller.
create function strangler.grant_controller(role name) returns void
language plpgsql set search_path = pg_catalog, pg_temp as $$
begin
    execute format('grant usage on schema strangler to %I', $1);
    execute format('grant select, update on strangler.migration to %I', $1);
    execute format('grant select, insert on strangler.history to %I', $1);
    execute format('grant select, insert, update on strangler.owner, strangler.seeding, strangler.lease to %I', $1);
    execute format('grant execute on function strangler.share(text, text), strangler.find_owner(text, text),
        strangler.birthplace(strangler.migration, text, text) to %I', $1);
end $$;

revoke execute on function strangler.grant_assigner(name), strangler.grant_writer(name),
    strangler.grant_controller(name) from public;
