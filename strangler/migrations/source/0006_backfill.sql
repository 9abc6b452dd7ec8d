-- Backfill, repair and parity, at the source.

-- The walk over the source's keys that finds what the target lacks, one for each migration. It begins again until a walk finds
-- nothing lacking.
create table strangler.backfill (
    migration text primary key references strangler.migration (name),
    after text,                                -- the last key of this walk that was looked at; null: none
    upto text,                                 -- the last key there was when it began; null: there was none
    keys bigint,                               -- how many there are up to it; null: not counted yet
    walk integer not null default 1,
    looked bigint not null default 0,          -- in this walk
    lacking bigint not null default 0,         -- of these, how many the target lacked
    published bigint not null default 0,       -- snapshots, in all walks
    skipped bigint not null default 0,         -- keys that could not be published when they were looked at, in all walks
    waits text check (octet_length(waits) <= 800),               -- one of them, with the reason
    asked_by text not null check (octet_length(asked_by) between 1 and 200),
    begun_at timestamptz not null default clock_timestamp(),
    walk_at timestamptz not null default clock_timestamp(),      -- when this walk goes on
    done_at timestamptz                        -- null: it is under way
);

-- What a gate may be passed by, with what it was found from.
create table strangler.evidence (
    id uuid primary key default gen_random_uuid(),
    migration text not null references strangler.migration (name),
    gate text not null check (gate in ('parity')),
    verdict text not null check (verdict in ('pass', 'inconclusive', 'fail')),
    found text not null,
    inputs jsonb not null,
    at timestamptz not null default clock_timestamp(),
    expires_at timestamptz not null
);
create index evidence_last on strangler.evidence (migration, gate, at desc);

alter table strangler.history drop constraint history_action_check;
alter table strangler.history add constraint history_action_check
    check (action in ('define', 'advance', 'rollback', 'hold', 'repair'));

-- Locks those of the keys that are the source's and settled, in key order, until the transaction ends: their state may be published,
-- and they can't leave meanwhile. It holds up no write. One that is on its way is left out.
create function strangler.claim_to_publish(migration text, keys text[]) returns setof text
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
begin
    return query
    select o.key from strangler.owner o
    where o.migration = $1 and o.key = any ($2) and o.owner = 'source' and o.phase = 'settled'
    order by o.key
    for share skip locked;
end $$;

-- Lets a login role hand keys over, take them back and publish their state: the module that writes them at the source.
create or replace function strangler.grant_mover(role name) returns void
language plpgsql set search_path = pg_catalog, pg_temp as $$
begin
    execute format('grant usage on schema strangler to %I', $1);
    execute format('grant execute on function strangler.claim_settled(text, text[]), strangler.fence(text, text[]),
        strangler.take_back(text, text, bigint), strangler.claim_to_publish(text, text[]) to %I', $1);
end $$;

-- Lets a login role run a controller. A key that is not pinned any more leaves no trace: it is the only thing it deletes.
create or replace function strangler.grant_controller(role name) returns void
language plpgsql set search_path = pg_catalog, pg_temp as $$
begin
    execute format('grant usage on schema strangler to %I', $1);
    execute format('grant select, update on strangler.migration to %I', $1);
    execute format('grant select, insert on strangler.history, strangler.evidence to %I', $1);
    execute format('grant select, insert, update on strangler.owner, strangler.seeding, strangler.lease,
        strangler.backfill to %I', $1);
    execute format('grant select, insert, update, delete on strangler.pinned to %I', $1);
    execute format('grant execute on function strangler.share(text, text), strangler.find_owner(text, text),
        strangler.birthplace(strangler.migration, text, text), strangler.look_again(strangler.pinned) to %I', $1);
end $$;

revoke execute on function strangler.claim_to_publish(text, text[]) from public;
