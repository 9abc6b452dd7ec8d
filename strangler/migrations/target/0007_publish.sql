-- Repair at the target.

-- Locks the rows of these keys, in key order, until the transaction ends: their state may be published, and they
-- can't leave meanwhile. It holds up no write and waits for none. One that someone else changes now is left out.
create function strangler.claim_to_publish(migration text, keys text[])
returns table (key text, epoch bigint, writable boolean, recall_epoch bigint)
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
#variable_conflict use_column
begin
    return query
    select a.key, a.epoch, a.writable, a.recall_epoch from strangler.authority a
    where a.migration = $1 and a.key = any ($2)
    order by a.key
    for share skip locked;
end $$;

-- Lets a login role publish the state of its keys without giving them up. Part of what a home is granted.
create function strangler.grant_publisher(role name) returns void
language plpgsql set search_path = pg_catalog, pg_temp as $$
begin
    execute format('grant usage on schema strangler to %I', $1);
    execute format('grant execute on function strangler.claim_to_publish(text, text[]) to %I', $1);
end $$;

revoke execute on function strangler.claim_to_publish(text, text[]), strangler.grant_publisher(name) from public;
