-- The inbox: cursors, and what waits in front of them.

-- Which role a handler runs as; the first to register a name owns it.
create table outbox.handler (
    name text primary key check (name ~ '^[a-z0-9._-]{1,100}$'),
    role name not null
);

-- Partitions a consumer group has started to read. Without a row, its first start reads from the log's beginning; with
-- one, a lost offset is an error.
create table outbox.subscription (
    consumer_group text not null,
    topic text not null,
    partition integer not null,
    started_at timestamptz not null default clock_timestamp(),
    primary key (consumer_group, topic, partition)
);

-- The last version each handler has applied of each key.
create table outbox.cursor (
    handler text not null references outbox.handler (name),
    topic text not null,
    key text not null,
    version bigint not null,
    last_id uuid,
    waiting integer not null default 0,         -- rows of this key in outbox.parked
    awaiting_snapshot boolean not null default false,   -- a replica that met this key in the middle
    primary key (handler, topic, key)
) with (fillfactor = 80);

-- Events that came before their turn (`early`), or whose handler refused them (`refused`) or could not run (`failed`).
create table outbox.parked (
    handler text not null,
    topic text not null,
    key text not null,
    version bigint not null,
    id uuid not null,
    reason text not null check (reason in ('early', 'refused', 'failed')),
    error text,
    attempts integer not null default 0,
    retry_at timestamptz not null default clock_timestamp(),
    parked_at timestamptz not null default clock_timestamp(),
    payload bytea not null,
    headers jsonb not null,
    primary key (handler, topic, key, version)
);
create index parked_retry on outbox.parked (handler, retry_at);

-- Records without a usable key, version or id: kept as they came, applied by nobody.
create table outbox.unreadable (
    consumer_group text not null,
    topic text not null,
    partition integer not null,
    record_offset bigint not null,
    error text not null,
    key bytea,
    payload bytea,
    headers jsonb not null,
    seen_at timestamptz not null default clock_timestamp(),
    primary key (consumer_group, topic, partition, record_offset)
);

-- The same version with two ids: two owners wrote. An alarm, kept for whoever looks into it.
create table outbox.conflict (
    handler text not null,
    topic text not null,
    key text not null,
    version bigint not null,
    applied_id uuid not null,
    other_id uuid not null,
    seen_at timestamptz not null default clock_timestamp(),
    primary key (handler, topic, key, version, other_id)
);

-- Claims a handler's name for the calling role. 42501 when it belongs to another.
create function outbox.register(handler text) returns void
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
begin
    insert into outbox.handler (name, role) values ($1, session_user) on conflict (name) do nothing;
    perform outbox.check_handler($1);
end $$;

create function outbox.check_handler(handler text) returns void
language plpgsql stable security definer set search_path = pg_catalog, pg_temp as $$
begin
    if not exists (select from outbox.handler h where h.name = $1 and h.role = session_user) then
        raise insufficient_privilege using
            message = format('handler %s is not registered by role %s', $1, session_user);
    end if;
end $$;

-- The gate: moves the cursor by exactly one, in the transaction of the effect, or says why not.
--   apply      moved; the effect may run       duplicate  applied before
--   early      an earlier version is missing   conflict   applied before, with another id
-- `waiting` counts parked rows of the key, to be drained after the commit; `applied` is the cursor's version.
create function outbox.admit(handler text, topic text, key text, version bigint, id uuid,
                             out verdict text, out waiting integer, out applied bigint)
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare
    at_ outbox.cursor;
begin
    perform outbox.check_handler($1);
    waiting := 0;
    applied := $4;
    if $4 = 1 then
        insert into outbox.cursor (handler, topic, key, version, last_id) values ($1, $2, $3, 1, $5)
        on conflict do nothing;
        if found then
            verdict := 'apply';
            return;
        end if;
    end if;
    update outbox.cursor c set version = $4, last_id = $5
    where c.handler = $1 and c.topic = $2 and c.key = $3 and c.version = $4 - 1
    returning c.waiting into waiting;
    if found then
        verdict := 'apply';
        return;
    end if;
    select c.* into at_ from outbox.cursor c where c.handler = $1 and c.topic = $2 and c.key = $3;
    if at_.version >= $4 then
        verdict := 'duplicate';
        if at_.version = $4 and at_.last_id <> $5 then
            verdict := 'conflict';
            insert into outbox.conflict (handler, topic, key, version, applied_id, other_id)
            values ($1, $2, $3, $4, at_.last_id, $5) on conflict do nothing;
        end if;
    else
        verdict := 'early';
    end if;
    waiting := coalesce(at_.waiting, 0);
    applied := coalesce(at_.version, 0);
end $$;

-- For replicas: a snapshot may pass over missing versions. Moves the cursor up to it; parked rows below are dropped by
-- outbox.unpark. False when the cursor is there already.
create function outbox.jump(handler text, topic text, key text, version bigint, id uuid) returns boolean
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
begin
    perform outbox.check_handler($1);
    insert into outbox.cursor as c (handler, topic, key, version, last_id) values ($1, $2, $3, $4, $5)
    on conflict on constraint cursor_pkey do update
    set version = excluded.version, last_id = excluded.last_id, awaiting_snapshot = false
    where c.version < excluded.version;
    return found;
end $$;

-- For replicas: marks a key that was met in the middle and can't be started without a snapshot. From then on its events are
-- not kept, the snapshot has their effect; so only a snapshot (outbox.jump) takes the mark away. False, and no mark, when the
-- key has been started, or an event of it waits.
create function outbox.await_snapshot(handler text, topic text, key text) returns boolean
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
begin
    perform outbox.check_handler($1);
    insert into outbox.cursor as c (handler, topic, key, version, awaiting_snapshot) values ($1, $2, $3, 0, true)
    on conflict on constraint cursor_pkey do update set awaiting_snapshot = true
    where c.version = 0 and c.waiting = 0;
    return found;
end $$;

-- Parks an event in front of its cursor. Locks the cursor (made at 0 when there is none) and looks again: the event that was
-- missing may have been applied meanwhile.
--   parked  stored (or stored before)     ready  its turn has come: admit it again
--   passed  applied meanwhile             full   `parked_max` events of this handler wait already: not stored
--   conflict  another event with this version waits: two owners wrote; kept in outbox.conflict
-- An event that its handler refused or could not take parks at its own turn: `reason` says so, and it is retried.
create function outbox.park(handler text, topic text, key text, version bigint, id uuid, payload bytea, headers jsonb,
                            reason text, error text, parked_max integer) returns text
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare
    version_ bigint;
    parked_id uuid;
begin
    perform outbox.check_handler($1);
    insert into outbox.cursor (handler, topic, key, version) values ($1, $2, $3, 0) on conflict do nothing;
    select c.version into version_ from outbox.cursor c
    where c.handler = $1 and c.topic = $2 and c.key = $3 for update;
    if version_ >= $4 then
        return 'passed';
    end if;
    select p.id into parked_id from outbox.parked p
    where p.handler = $1 and p.topic = $2 and p.key = $3 and p.version = $4;
    if parked_id <> $5 then
        insert into outbox.conflict (handler, topic, key, version, applied_id, other_id)
        values ($1, $2, $3, $4, parked_id, $5) on conflict do nothing;
        return 'conflict';
    elsif parked_id is not null then
        return 'parked';
    end if;
    if $8 = 'early' and version_ = $4 - 1 then
        return 'ready';
    end if;
    if (select count(*) from (select from outbox.parked p where p.handler = $1 limit $10) bounded) >= $10 then
        return 'full';
    end if;
    insert into outbox.parked (handler, topic, key, version, id, reason, error, payload, headers)
    values ($1, $2, $3, $4, $5, $8, left($9, 2000), $6, $7);
    update outbox.cursor c set waiting = c.waiting + 1 where c.handler = $1 and c.topic = $2 and c.key = $3;
    return 'parked';
end $$;

-- The parked event of this key to try next, if any: the one whose turn it is, or one that was tried before (a snapshot has
-- its turn whenever it comes).
create function outbox.next_parked(handler text, topic text, key text) returns setof outbox.parked
language sql stable security definer set search_path = pg_catalog, pg_temp as $$
    select p.* from outbox.parked p
    join outbox.cursor c on c.handler = p.handler and c.topic = p.topic and c.key = p.key
        and (p.version = c.version + 1 or p.reason <> 'early')
    join outbox.handler h on h.name = p.handler and h.role = session_user
    where p.handler = $1 and p.topic = $2 and p.key = $3
    order by p.version limit 1
$$;

-- Forgets the parked rows that a key's cursor has passed, in the transaction that moved it.
create function outbox.unpark(handler text, topic text, key text) returns integer
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare
    gone integer;
begin
    perform outbox.check_handler($1);
    delete from outbox.parked p using outbox.cursor c
    where c.handler = p.handler and c.topic = p.topic and c.key = p.key and p.version <= c.version
      and p.handler = $1 and p.topic = $2 and p.key = $3;
    get diagnostics gone = row_count;
    update outbox.cursor c set waiting = c.waiting - gone
    where gone > 0 and c.handler = $1 and c.topic = $2 and c.key = $3;
    return gone;
end $$;

-- Notes that a parked event was tried again without success; it waits `delay` before the next time.
create function outbox.retry_later(handler text, topic text, key text, version bigint, reason text, error text,
                                   delay interval) returns void
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
begin
    perform outbox.check_handler($1);
    update outbox.parked p
    set reason = $5, error = $6, retry_at = clock_timestamp() + $7,
        attempts = p.attempts + case when $5 = 'refused' then 1 else 0 end
    where p.handler = $1 and p.topic = $2 and p.key = $3 and p.version = $4;
end $$;

-- Keys of a handler with a parked event to try whose time is up, for the sweep.
create function outbox.due(handler text, batch_max integer) returns table (topic text, key text)
language sql stable security definer set search_path = pg_catalog, pg_temp as $$
    select p.topic, p.key from outbox.parked p
    join outbox.cursor c on c.handler = p.handler and c.topic = p.topic and c.key = p.key
        and (p.version = c.version + 1 or p.reason <> 'early')
    join outbox.handler h on h.name = p.handler and h.role = session_user
    where p.handler = $1 and p.retry_at <= now()
    order by p.retry_at limit $2
$$;

-- Keeps a record that no gate can take. Repeats change nothing.
create function outbox.keep_unreadable(consumer_group text, topic text, partition integer, record_offset bigint,
                                       error text, key bytea, payload bytea, headers jsonb) returns void
language sql security definer set search_path = pg_catalog, pg_temp as $$
    insert into outbox.unreadable (consumer_group, topic, partition, record_offset, error, key, payload, headers)
    values ($1, $2, $3, $4, $5, $6, $7, $8) on conflict do nothing
$$;

-- Whether a group has started to read a partition.
create function outbox.subscribed(consumer_group text, topic text, partition integer) returns boolean
language sql stable security definer set search_path = pg_catalog, pg_temp as $$
    select exists (select from outbox.subscription s where s.consumer_group = $1 and s.topic = $2 and s.partition = $3)
$$;

-- Notes that a group has started to read a partition.
create function outbox.subscribe(consumer_group text, topic text, partition integer) returns void
language sql security definer set search_path = pg_catalog, pg_temp as $$
    insert into outbox.subscription (consumer_group, topic, partition) values ($1, $2, $3) on conflict do nothing
$$;
