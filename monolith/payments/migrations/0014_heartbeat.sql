-- The last heartbeat of the other home that came here through the feed, and was applied by the replica.
create table payments.heartbeat (
    home text primary key check (home in ('source', 'target')),   -- whose
    sequence bigint not null check (sequence > 0),
    sent_at timestamptz not null,       -- by the clock of the database that it came from
    received_at timestamptz not null    -- by the clock of this one
);

-- What a home needs beside `payments.grant_home`.
create function payments.grant_heartbeats(role name) returns void
language plpgsql set search_path = pg_catalog, pg_temp as $$
begin
    execute format('grant select, insert, update on payments.heartbeat to %I', $1);
end $$;
revoke execute on function payments.grant_heartbeats(name) from public;
