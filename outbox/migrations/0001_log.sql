-- The log: heads, events and the queue of what is not delivered yet. Written only by outbox.publish and outbox.follow.
create schema if not exists outbox;

-- Who publishes as what. The origin of an event follows from the login role, never from an argument.
create table outbox.origin (
    role name primary key,
    origin text not null check (origin ~ '^[a-z0-9._-]{1,100}$'),
    topics text[] not null          -- the only ones it may publish to
);

-- Drawn after the head lock, one at a time (cache 1), so that per key the order of positions is the order of commits.
create sequence outbox.position cache 1;

-- The last version of each key. Its row lock orders the writers of a key and makes versions dense. What may stand in
-- here and in the log is checked by the functions that alone write them, in 0002: each statement would parse a table's CHECKs
-- anew, which took a third of the time of a publish.
create table outbox.head (
    topic text not null,
    key text not null,
    version bigint not null,
    last_id uuid,             -- null only at version 0: locked, nothing published yet
    position bigint,          -- of the key's last event published here; null while all of them are foreign
    previous bigint,          -- of the one before it
    constraint head_pkey primary key (topic, key)
) with (fillfactor = 80);

-- Heads of keys whose stream has ended, out of the way of the others. Whoever would begin such a key anew takes its head back:
-- outbox.publish, outbox.lock and outbox.follow look here when they have inserted a head.
create table outbox.archived_head (
    topic text not null,
    key text not null,
    version bigint not null,
    last_id uuid,
    position bigint,
    constraint archived_head_pkey primary key (topic, key)
);

-- Append only, one partition a day.
create table outbox.event (
    position bigint not null,
    created_at timestamptz not null,
    id uuid not null,
    bucket smallint not null,
    topic text not null,
    key text not null,
    version bigint not null,
    kind text not null,
    origin text not null,
    payload bytea not null,
    headers jsonb not null,
    previous bigint,          -- position of this key's event before: the events of a key are a chain that starts at its head
    primary key (position, created_at)
) partition by range (created_at);

-- When deliveries were noted: one row for each batch that a relay removes from the queue, in the same statement. Daily
-- partitions too. Not in outbox.event: an update there would write each payload twice.
create table outbox.sent (
    at timestamptz not null,
    positions bigint[] not null
) partition by range (at);
create index sent_at on outbox.sent (at);

-- What is not delivered. A row leaves only when a broker reported its delivery.
create table outbox.pending (
    bucket smallint not null,
    position bigint not null,
    created_at timestamptz not null,
    previous bigint,          -- this key's event before: sent only when that is no longer pending
    attempts integer not null default 0,   -- how often a broker refused it; an outage does not count
    error text,               -- the last refusal
    retry_at timestamptz,     -- refused: not before; null while it never was
    quarantined_at timestamptz,            -- refused too often: waits for an operator
    primary key (bucket, position)
) with (fillfactor = 80, autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_cost_delay = 0);
-- Refused rows have lanes of their own, so that any number of them does not stand in the way of the others. Neither costs a
-- publish anything.
create index pending_retry on outbox.pending (bucket, retry_at) where retry_at is not null and quarantined_at is null;
create index pending_quarantined on outbox.pending (bucket, position) where quarantined_at is not null;

-- The written hash that spreads keys over 64 buckets: the low six bits of the first byte of SHA-256. Not a function of
-- language sql: inside outbox.publish it would be planned anew in each transaction, for a sixth of the time of the whole.
create function outbox.bucket(key text) returns smallint
language plpgsql immutable strict parallel safe as $$
begin
    return get_byte(sha256(convert_to($1, 'UTF8')), 0) & 63;
end $$;

-- A version 7 UUID (RFC 9562): 48 bits of Unix milliseconds, then random bits. Bits 52 and 53 turn version 4 into 7.
create function outbox.uuid_v7(at timestamptz) returns uuid
language sql volatile strict parallel safe
return encode(
    set_bit(set_bit(overlay(uuid_send(gen_random_uuid())
        placing substring(int8send((date_part('epoch', at) * 1000)::bigint) from 3) from 1 for 6), 52, 1), 53, 1),
    'hex')::uuid;

-- Makes a role the owner of a log or of one of its days. To own a table in a schema takes the right to create there, for the
-- moment of the change only.
create function outbox.give(part regclass, role name) returns void
language plpgsql set search_path = pg_catalog, pg_temp as $$
declare
    may boolean := has_schema_privilege($2, 'outbox', 'create');
begin
    if not may then
        execute format('grant create on schema outbox to %I', $2);
    end if;
    execute format('alter table %s owner to %I', $1, $2);
    if not may then
        execute format('revoke create on schema outbox from %I', $2);
    end if;
end $$;

-- Makes the partition of one day of a log (`event` or `sent`), if it is missing; one that was detached and not dropped is
-- attached again. `like` + `attach` under a lock timeout: `create .. partition of` would wait behind any open publisher and
-- make all others wait behind it. There is no default partition: with one, PostgreSQL refuses `detach concurrently`, and each
-- attach would scan it while all publishers wait.
create function outbox.make_partition(log text, day date) returns boolean
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare
    part text := $1 || '_' || to_char($2, 'YYYYMMDD');
    keeper name := (select pg_get_userbyid(c.relowner) from pg_class c where c.oid = to_regclass('outbox.' || $1));
begin
    if $1 not in ('event', 'sent') then
        raise invalid_parameter_value using message = format('outbox.%s is not cut into days', $1);
    end if;
    if exists (select from pg_inherits i
               where i.inhparent = to_regclass('outbox.' || $1) and i.inhrelid = to_regclass('outbox.' || part)) then
        return false;
    end if;
    perform set_config('lock_timeout', '2s', true);
    if to_regclass('outbox.' || part) is null then
        execute format('create table outbox.%I (like outbox.%I including all)', part, $1);
        if keeper <> current_user then
            perform outbox.give(to_regclass('outbox.' || part), keeper);
        end if;
    end if;
    execute format('alter table outbox.%I attach partition outbox.%I for values from (%L) to (%L)', $1, part,
        $2::timestamp at time zone 'UTC', ($2 + 1)::timestamp at time zone 'UTC');
    return true;
end $$;

-- Makes the partitions of yesterday to `days` ahead that are missing, and returns how many. Called when migrating, and by
-- the housekeeping of each relay.
create function outbox.make_partitions(days integer) returns integer
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare
    today date := (clock_timestamp() at time zone 'UTC')::date;
    made integer := 0;
begin
    perform pg_advisory_xact_lock(hashtext('outbox.partitions'));
    for n in -1 .. $1 loop
        made := made + outbox.make_partition('event', today + n)::integer + outbox.make_partition('sent', today + n)::integer;
    end loop;
    return made;
end $$;

select outbox.make_partitions(14);
