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

-- Where a handler began in a topic, the first time. It stays as it was said then.
--   earliest  at the beginning of the topic       log  there too; what the topic no longer has comes from the home's log
--   now       at the end: a key without a cursor begins with whichever event of it is met first, for good
create table outbox.baseline (
    handler text not null references outbox.handler (name),
    topic text not null,
    kind text not null check (kind in ('earliest', 'log', 'now')),
    because text check (kind <> 'now' or because ~ '\S'),    -- why what came before may be left out
    set_at timestamptz not null default clock_timestamp(),
    primary key (handler, topic)
);

-- The last version each handler has applied of each key.
create table outbox.cursor (
    handler text not null references outbox.handler (name),
    topic text not null,
    key text not null,
    version bigint not null,
    last_id uuid,
    applied_at timestamptz,                     -- when its gate opened for that version
    waiting integer not null default 0,         -- rows of this key in outbox.parked and outbox.dead_letter
    awaiting_snapshot boolean not null default false,   -- a replica that met this key in the middle
    primary key (handler, topic, key)
) with (fillfactor = 80);

-- Cursors of keys whose stream has ended, out of the way of the others.
create table outbox.archived_cursor (
    handler text not null,
    topic text not null,
    key text not null,
    version bigint not null,
    last_id uuid,
    applied_at timestamptz,
    primary key (handler, topic, key)
);

-- Whoever inserts a cursor meets the archived one: it is taken back, the insert does not happen, and the caller finds what it
-- finds when another was faster. So no gate can forget the archive. The cursor is looked for first, and locked: one that is
-- there can't be archived before the insert meets it, and one that is not is in the archive by the second look.
create function outbox.thaw_cursor() returns trigger
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
begin
    perform from outbox.cursor c
    where c.handler = new.handler and c.topic = new.topic and c.key = new.key for key share;
    if found then
        return new;
    end if;
    with taken as (
        delete from outbox.archived_cursor a
        where a.handler = new.handler and a.topic = new.topic and a.key = new.key returning a.*
    )
    insert into outbox.cursor (handler, topic, key, version, last_id, applied_at)
    select t.handler, t.topic, t.key, t.version, t.last_id, t.applied_at from taken t on conflict do nothing;
    if found then
        return null;
    end if;
    return new;
end $$;

create trigger thaw_cursor before insert on outbox.cursor for each row execute function outbox.thaw_cursor();

-- Events that came before their turn (`early`), or whose handler refused them (`refused`) or could not run (`failed`).
create table outbox.parked (
    handler text not null,
    topic text not null,
    key text not null,
    version bigint not null,
    id uuid not null,
    reason text not null check (reason in ('early', 'refused', 'failed')),
    error text,
    attempts integer not null default 0,        -- the handler's refusals
    tries integer not null default 0,           -- those, and what the database could not run
    retry_at timestamptz not null default clock_timestamp(),
    parked_at timestamptz not null default clock_timestamp(),
    replaced boolean not null default false,    -- an operator edited or discarded it: what the log has is not to be applied
    payload bytea not null,
    headers jsonb not null,
    primary key (handler, topic, key, version)
);
create index parked_retry on outbox.parked (handler, retry_at);

-- Events that were given up after so many refusals: their key waits in front of them until an operator replays or discards
-- them, or a redelivery is taken after all.
create table outbox.dead_letter (
    id uuid primary key,                -- the letter's: the same event given up twice is two letters
    handler text not null,
    topic text not null,
    key text not null,
    version bigint not null,
    event_id uuid not null,
    kind text,
    payload bytea not null,
    headers jsonb not null,
    error text not null,                -- the last refusal
    fingerprint text not null,          -- outbox.fingerprint(error): letters of one cause share it
    attempts integer not null,
    buried_at timestamptz not null default clock_timestamp(),
    constraint dead_letter_key unique (handler, topic, key, version)
);
create index dead_letter_group on outbox.dead_letter (handler, kind, fingerprint, id);

-- Keys of which events are known by version only: there was no room to park them, or they never came. What is missing up to
-- `version` is to be had from the producing home's log.
create table outbox.overflow (
    handler text not null,
    topic text not null,
    key text not null,
    version bigint not null,
    events bigint not null,             -- how many came and found no room; 0 for a gap
    attempts integer not null default 0,        -- in vain, since the last event that the log gave
    error text,
    retry_at timestamptz not null default clock_timestamp(),
    since timestamptz not null default clock_timestamp(),
    constraint overflow_pkey primary key (handler, topic, key)
);
create index overflow_retry on outbox.overflow (handler, retry_at);

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
    discarded_at timestamptz,       -- an operator has looked at it; the row stays, or a redelivery would bring it back
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
declare
    role_ name;
begin
    insert into outbox.handler (name, role) values ($1, session_user) on conflict (name) do nothing;
    select h.role into role_ from outbox.handler h where h.name = $1;
    if role_ <> session_user then
        raise insufficient_privilege using
            message = format('handler %s belongs to role %s, not to %s: run it there or give it another name',
                             $1, role_, session_user);
    end if;
end $$;

create function outbox.check_handler(handler text) returns void
language plpgsql stable security definer set search_path = pg_catalog, pg_temp as $$
begin
    if not exists (select from outbox.handler h where h.name = $1 and h.role = session_user) then
        raise insufficient_privilege using
            message = format('handler %s is not registered by role %s', $1, session_user);
    end if;
end $$;

-- Where a handler has begun in a topic; null before its first start.
create function outbox.begun(handler text, topic text) returns text
language sql stable security definer set search_path = pg_catalog, pg_temp as $$
    select b.kind from outbox.baseline b where b.handler = $1 and b.topic = $2
$$;

-- Notes where a handler begins in a topic. What was said first stays.
create function outbox.begin_at(handler text, topic text, kind text, because text) returns void
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
begin
    perform outbox.check_handler($1);
    insert into outbox.baseline (handler, topic, kind, because) values ($1, $2, $3, $4) on conflict do nothing;
end $$;

-- The cursor that a key has before its first event is met: 0, or under the baseline `now` the version before that event.
create function outbox.opening(handler text, topic text, version bigint) returns bigint
language sql stable security definer set search_path = pg_catalog, pg_temp as $$
    select case outbox.begun($1, $2) when 'now' then $3 - 1 else 0 end
$$;

-- The origins of this database: an event of one of them can't be newer than its head here.
create function outbox.own_origins() returns text[]
language sql stable security definer set search_path = pg_catalog, pg_temp as $$
    select coalesce(array_agg(o.origin), '{}') from outbox.origin o
$$;

-- The gate: moves the cursor by exactly one, in the transaction of the effect, or says why not.
--   apply      moved; the effect may run       duplicate  applied before
--   early      an earlier version is missing   conflict   applied before, with another id (`applied_id`)
-- `waiting` counts what is parked or dead of the key; `applied` is the cursor's version. A key that awaits a snapshot takes
-- no other event.
create function outbox.admit(handler text, topic text, key text, version bigint, id uuid,
                             out verdict text, out waiting integer, out applied bigint, out applied_id uuid)
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare
    at_ outbox.cursor;
begin
    perform outbox.check_handler($1);
    waiting := 0;
    applied := $4;
    if $4 = 1 then
        insert into outbox.cursor (handler, topic, key, version, last_id, applied_at)
        values ($1, $2, $3, 1, $5, clock_timestamp())
        on conflict do nothing;
        if found then
            verdict := 'apply';
            return;
        end if;
    end if;
    update outbox.cursor c set version = $4, last_id = $5, applied_at = clock_timestamp()
    where c.handler = $1 and c.topic = $2 and c.key = $3 and c.version = $4 - 1 and not c.awaiting_snapshot
    returning c.waiting into waiting;
    if found then
        verdict := 'apply';
        return;
    end if;
    select c.* into at_ from outbox.cursor c where c.handler = $1 and c.topic = $2 and c.key = $3;
    if at_.key is null and outbox.opening($1, $2, $4) = $4 - 1 then
        insert into outbox.cursor (handler, topic, key, version, last_id, applied_at)
        values ($1, $2, $3, $4, $5, clock_timestamp())
        on conflict do nothing;
        if found then
            verdict := 'apply';
            waiting := 0;
            return;
        end if;
    end if;
    if at_.version >= $4 then
        verdict := 'duplicate';
        applied_id := at_.last_id;
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

-- The gate for many keys of one topic: each run of versions moves its cursor from before its first to its last, or not at
-- all; a key of which something waits is left to outbox.admit. The cursors are locked in the order of their keys until the
-- transaction ends, so a run that was not admitted may be cut to what is due and asked again. `version` and `last_id` are the cursor's before; null for a key without one. `behind`
-- is this database's head where the run has an event of its own (`own_last`) that the head never reached.
create function outbox.admit_runs(handler text, topic text, keys text[], firsts bigint[], lasts bigint[], last_ids uuid[],
                                  own_lasts bigint[])
    returns table (n integer, admitted boolean, version bigint, last_id uuid, behind bigint)
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
#variable_conflict use_column
begin
    perform outbox.check_handler($1);
    perform from outbox.cursor c
    where c.handler = $1 and c.topic = $2 and c.key = any ($3) order by c.key for update;
    return query
    with run as (
        select r.* from unnest($3, $4, $5, $6, $7) with ordinality as r (key, first, last, last_id, own_last, n)
    ), moved as (
        update outbox.cursor c set version = run.last, last_id = run.last_id, applied_at = clock_timestamp()
        from run
        where c.handler = $1 and c.topic = $2 and c.key = run.key and c.version = run.first - 1
          and c.waiting = 0 and not c.awaiting_snapshot
        returning c.key
    ), opened as (
        insert into outbox.cursor as c (handler, topic, key, version, last_id, applied_at)
        select $1, $2, run.key, run.last, run.last_id, clock_timestamp() from run where run.first = 1 order by run.key
        on conflict do nothing
        returning c.key
    )
    select run.n::integer, moved.key is not null or opened.key is not null, at_.version,
           at_.last_id, case when run.own_last > coalesce(h.version, 0) then outbox.head_version($2, run.key) end
    from run
    left join moved on moved.key = run.key
    left join opened on opened.key = run.key
    left join outbox.cursor at_ on at_.handler = $1 and at_.topic = $2 and at_.key = run.key
    left join outbox.head h on h.topic = $2 and h.key = run.key and run.own_last is not null;
end $$;

-- For replicas: a snapshot may pass over missing versions. Moves the cursor up to it; parked rows below are dropped by
-- outbox.unpark. False when the cursor is there already.
create function outbox.jump(handler text, topic text, key text, version bigint, id uuid) returns boolean
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
begin
    perform outbox.check_handler($1);
    insert into outbox.cursor as c (handler, topic, key, version, last_id, applied_at)
    values ($1, $2, $3, $4, $5, clock_timestamp())
    on conflict on constraint cursor_pkey do update
    set version = excluded.version, last_id = excluded.last_id, applied_at = excluded.applied_at, awaiting_snapshot = false
    where c.version < excluded.version;
    if found then
        return true;
    end if;
    -- Not there or beyond it, or just taken out of the archive.
    update outbox.cursor c set version = $4, last_id = $5, applied_at = clock_timestamp(), awaiting_snapshot = false
    where c.handler = $1 and c.topic = $2 and c.key = $3 and c.version < $4;
    return found;
end $$;

-- For replicas: marks a key that was met in the middle and can't be started without a snapshot. From then on its events are
-- not kept, the snapshot has their effect; so only a snapshot (outbox.jump) takes the mark away. False, and no mark, when the
-- key has been started, or an event of it waits; true for a key that awaits one already.
create function outbox.await_snapshot(handler text, topic text, key text) returns boolean
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
begin
    perform outbox.check_handler($1);
    insert into outbox.cursor as c (handler, topic, key, version, awaiting_snapshot) values ($1, $2, $3, 0, true)
    on conflict on constraint cursor_pkey do update set awaiting_snapshot = true
    where c.waiting = 0 and (c.awaiting_snapshot or c.version = 0)
      and not exists (select from outbox.overflow o where o.handler = $1 and o.topic = $2 and o.key = $3);
    return found;
end $$;

-- For replicas: the event that moved the cursor to `version` was skipped at its home, so the state here is not known until
-- a snapshot comes.
create function outbox.skipped(handler text, topic text, key text, version bigint) returns void
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
begin
    perform outbox.check_handler($1);
    update outbox.cursor c set awaiting_snapshot = true
    where c.handler = $1 and c.topic = $2 and c.key = $3 and c.version = $4;
end $$;

-- What a replica applied, for a while: two owners may have written one version, and be found out later.
create table outbox.applied_id (
    handler text not null,
    topic text not null,
    key text not null,
    version bigint not null,
    id uuid not null,
    applied_at timestamptz not null default clock_timestamp(),
    primary key (handler, topic, key, version)
);
create index applied_id_age on outbox.applied_id (handler, applied_at);

create function outbox.remember(handler text, topic text, key text, version bigint, id uuid) returns void
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
begin
    perform outbox.check_handler($1);
    insert into outbox.applied_id (handler, topic, key, version, id) values ($1, $2, $3, $4, $5) on conflict do nothing;
end $$;

-- The other id that was applied as this version, if it is remembered; kept in outbox.conflict then.
create function outbox.applied_as(handler text, topic text, key text, version bigint, id uuid) returns uuid
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare
    other uuid;
begin
    perform outbox.check_handler($1);
    select a.id into other from outbox.applied_id a
    where a.handler = $1 and a.topic = $2 and a.key = $3 and a.version = $4 and a.id <> $5;
    if other is not null then
        insert into outbox.conflict (handler, topic, key, version, applied_id, other_id)
        values ($1, $2, $3, $4, other, $5) on conflict do nothing;
    end if;
    return other;
end $$;

-- Forgets what was applied longer ago than `keep`, at most `batch_max` rows; how many.
create function outbox.forget_applied(handler text, keep interval, batch_max integer) returns integer
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare
    gone integer;
begin
    perform outbox.check_handler($1);
    delete from outbox.applied_id a using (
        select o.ctid from outbox.applied_id o
        where o.handler = $1 and o.applied_at < clock_timestamp() - $2 order by o.applied_at limit $3
    ) old where a.ctid = old.ctid;
    get diagnostics gone = row_count;
    return gone;
end $$;

-- An event that was known by its version only is kept now: it is counted once, in one place.
create function outbox.found_room(handler text, topic text, key text, version bigint) returns void
language sql security definer set search_path = pg_catalog, pg_temp as $$
    update outbox.overflow o set events = o.events - 1
    where o.handler = $1 and o.topic = $2 and o.key = $3 and o.version >= $4 and o.events > 0
$$;

-- Parks an event in front of its cursor. Locks the cursor (made at 0 when there is none) and looks again: the event that was
-- missing may have been applied meanwhile.
--   parked  stored     again  stored before     ready  its turn has come: admit it again
--   passed  applied meanwhile             full   `parked_max` events of this handler wait already: not stored
--   conflict ID  another event, ID, with this version waits: two owners wrote; kept in outbox.conflict
--   overflow  no room, noted by its version: the log has it (`again` when that is known)
-- An event that its handler refused or could not take parks at its own turn: `reason` says so, and it is retried. One that
-- was given up before (outbox.dead_letter) counts as parked. `per_key_max` bounds the events of one key where a log can be
-- asked for them later; null where there is none, and then only `parked_max` stops the consumer.
create function outbox.park(handler text, topic text, key text, version bigint, id uuid, payload bytea, headers jsonb,
                            reason text, error text, parked_max integer, per_key_max integer) returns text
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare
    at_ outbox.cursor;
    kept_id uuid;
begin
    perform outbox.check_handler($1);
    insert into outbox.cursor (handler, topic, key, version) values ($1, $2, $3, outbox.opening($1, $2, $4))
    on conflict do nothing;
    select c.* into at_ from outbox.cursor c
    where c.handler = $1 and c.topic = $2 and c.key = $3 for update;
    if at_.version >= $4 then
        return 'passed';
    end if;
    select p.id into kept_id from outbox.parked p
    where p.handler = $1 and p.topic = $2 and p.key = $3 and p.version = $4
    union all
    select d.event_id from outbox.dead_letter d
    where d.handler = $1 and d.topic = $2 and d.key = $3 and d.version = $4;
    if kept_id <> $5 then
        insert into outbox.conflict (handler, topic, key, version, applied_id, other_id)
        values ($1, $2, $3, $4, kept_id, $5) on conflict do nothing;
        return 'conflict ' || kept_id;
    elsif kept_id is not null then
        return 'again';
    end if;
    if $8 = 'early' and at_.version = $4 - 1 then
        return 'ready';
    end if;
    if at_.waiting >= $11 or $10 <= (
        select count(*) from (
            select from outbox.parked p where p.handler = $1
            union all select from outbox.dead_letter d where d.handler = $1 limit $10
        ) bounded
    ) then
        if $11 is null then
            return 'full';
        end if;
        insert into outbox.overflow as o (handler, topic, key, version, events) values ($1, $2, $3, $4, 1)
        on conflict on constraint overflow_pkey do update
        set version = excluded.version, events = o.events + 1 where o.version < excluded.version;
        return case when found then 'overflow' else 'again' end;
    end if;
    insert into outbox.parked (handler, topic, key, version, id, reason, error, payload, headers, attempts, tries)
    values ($1, $2, $3, $4, $5, $8, left($9, 2000), $6, $7, ($8 = 'refused')::integer, ($8 <> 'early')::integer);
    update outbox.cursor c set waiting = c.waiting + 1 where c.handler = $1 and c.topic = $2 and c.key = $3;
    perform outbox.found_room($1, $2, $3, $4);
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

-- Whether an operator has put something else in the place of this event; then a redelivery of the original waits for it.
create function outbox.is_replaced(handler text, topic text, key text, version bigint, payload bytea, headers jsonb)
    returns boolean
language sql stable security definer set search_path = pg_catalog, pg_temp as $$
    select exists (
        select from outbox.parked p
        join outbox.handler h on h.name = p.handler and h.role = session_user
        where p.handler = $1 and p.topic = $2 and p.key = $3 and p.version = $4 and p.replaced
          and (p.payload, p.headers) is distinct from ($5, $6)
    )
$$;

-- Forgets the parked rows and dead letters that a key's cursor has passed, in the transaction that moved it.
create function outbox.unpark(handler text, topic text, key text) returns integer
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare
    gone integer;
    dead integer;
begin
    perform outbox.check_handler($1);
    delete from outbox.parked p using outbox.cursor c
    where c.handler = p.handler and c.topic = p.topic and c.key = p.key and p.version <= c.version
      and p.handler = $1 and p.topic = $2 and p.key = $3;
    get diagnostics gone = row_count;
    delete from outbox.dead_letter d using outbox.cursor c
    where c.handler = d.handler and c.topic = d.topic and c.key = d.key and d.version <= c.version
      and d.handler = $1 and d.topic = $2 and d.key = $3;
    get diagnostics dead = row_count;
    gone := gone + dead;
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
        attempts = p.attempts + ($5 = 'refused')::integer, tries = p.tries + 1
    where p.handler = $1 and p.topic = $2 and p.key = $3 and p.version = $4;
end $$;

-- The cause of an error: its words without what differs from case to case (quoted parts, UUIDs, numbers), as a short hash.
create function outbox.fingerprint(error text) returns text
language sql immutable strict parallel safe set search_path = pg_catalog, pg_temp as $$
    select left(encode(sha256(convert_to(
        regexp_replace(
            regexp_replace(
                regexp_replace($1, '"[^"]*"|''[^'']*''|`[^`]*`', '<text>', 'g'),
                '[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}', '<id>', 'g'),
            '[0-9]+', '<n>', 'g'), 'UTF8')), 'hex'), 16)
$$;

-- Gives an event up: it becomes a dead letter and its key waits in front of it. What is parked of it moves, payload and all
-- (an operator may have edited it); else the event is stored as given. Nothing to do when the cursor has passed it or it is
-- dead already; answers `dead`, or why not: `again`, `passed`, `conflict ID`.
create function outbox.bury(handler text, topic text, key text, version bigint, id uuid, payload bytea, headers jsonb,
                            error text, attempts integer) returns text
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare
    version_ bigint;
    kept_id uuid;
    parked_ outbox.parked;
begin
    perform outbox.check_handler($1);
    insert into outbox.cursor (handler, topic, key, version) values ($1, $2, $3, outbox.opening($1, $2, $4))
    on conflict do nothing;
    select c.version into version_ from outbox.cursor c
    where c.handler = $1 and c.topic = $2 and c.key = $3 for update;
    if version_ >= $4 then
        return 'passed';
    end if;
    select p.id into kept_id from outbox.parked p
    where p.handler = $1 and p.topic = $2 and p.key = $3 and p.version = $4
    union all
    select d.event_id from outbox.dead_letter d
    where d.handler = $1 and d.topic = $2 and d.key = $3 and d.version = $4;
    if kept_id <> $5 then
        insert into outbox.conflict (handler, topic, key, version, applied_id, other_id)
        values ($1, $2, $3, $4, kept_id, $5) on conflict do nothing;
        return 'conflict ' || kept_id;
    end if;
    delete from outbox.parked p
    where p.handler = $1 and p.topic = $2 and p.key = $3 and p.version = $4
    returning p.* into parked_;
    if kept_id is null then
        update outbox.cursor c set waiting = c.waiting + 1 where c.handler = $1 and c.topic = $2 and c.key = $3;
        perform outbox.found_room($1, $2, $3, $4);
    elsif parked_.id is null then
        return 'again';
    end if;
    insert into outbox.dead_letter (id, handler, topic, key, version, event_id, kind, payload, headers, error, fingerprint,
                                    attempts)
    values (outbox.uuid_v7(clock_timestamp()), $1, $2, $3, $4, $5,
            coalesce(parked_.headers, $7) ->> 'ce_type', coalesce(parked_.payload, $6), coalesce(parked_.headers, $7),
            left(coalesce($8, ''), 2000), outbox.fingerprint(left(coalesce($8, ''), 2000)), $9);
    return 'dead';
end $$;

-- What the log is to be asked for: keys of a handler whose next event is neither here nor dead, though later ones are known.
-- After `after` (and the id applied there), until `until`; `next_id` is the event kept behind the gap, if any. A key whose
-- later events were parked less than `gap_after` ago is left alone: what it misses may just be late.
create function outbox.gaps(handler text, gap_after interval, batch_max integer)
    returns table (topic text, key text, after bigint, last_id uuid, until bigint, next_id uuid, attempts integer,
                   events bigint)
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
#variable_conflict use_column
begin
    perform outbox.check_handler($1);
    -- One member of a group at a time: two would ask for the same, and lock rows in different orders.
    if not pg_try_advisory_xact_lock(hashtext('outbox.gaps'), hashtext($1)) then
        return;
    end if;
    insert into outbox.overflow (handler, topic, key, version, events)
    select p.handler, p.topic, p.key, min(p.version) - 1, 0
    from outbox.parked p
    join outbox.cursor c on c.handler = p.handler and c.topic = p.topic and c.key = p.key
    where p.handler = $1 and p.reason = 'early' and p.parked_at <= clock_timestamp() - $2 and p.version > c.version + 1
      and not c.awaiting_snapshot
      and not exists (select from outbox.overflow o
                      where o.handler = p.handler and o.topic = p.topic and o.key = p.key)
      and not exists (select from outbox.parked n
                      where n.handler = p.handler and n.topic = p.topic and n.key = p.key and n.version = c.version + 1)
      and not exists (select from outbox.dead_letter d
                      where d.handler = p.handler and d.topic = p.topic and d.key = p.key and d.version = c.version + 1)
    group by p.handler, p.topic, p.key
    order by min(p.parked_at) limit $3
    on conflict do nothing;
    return query
    select o.topic, o.key, c.version, c.last_id, coalesce(n.version - 1, o.version), n.id, o.attempts, o.events
    from outbox.overflow o
    join outbox.cursor c on c.handler = o.handler and c.topic = o.topic and c.key = o.key and c.version < o.version
    left join lateral (
        select kept.version, kept.id
        from (select p.version, p.id from outbox.parked p
              where p.handler = o.handler and p.topic = o.topic and p.key = o.key and p.version > c.version
              union all
              select d.version, d.event_id from outbox.dead_letter d
              where d.handler = o.handler and d.topic = o.topic and d.key = o.key and d.version > c.version) kept
        order by kept.version limit 1
    ) n on true
    where o.handler = $1 and o.retry_at <= clock_timestamp() and not c.awaiting_snapshot
      and n.version is distinct from c.version + 1
    order by o.retry_at limit $3;
end $$;

-- Forgets what handlers have passed, and returns how many events of it came and were never asked for: they were read again.
create function outbox.forget_gaps(handler text) returns bigint
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare
    events_ bigint;
begin
    perform outbox.check_handler($1);
    if not pg_try_advisory_xact_lock(hashtext('outbox.gaps'), hashtext($1)) then
        return 0;
    end if;
    with gone as (
        delete from outbox.overflow o using outbox.cursor c
        where c.handler = o.handler and c.topic = o.topic and c.key = o.key and o.version <= c.version and o.handler = $1
        returning o.events
    )
    select coalesce(sum(gone.events), 0) into events_ from gone;
    return events_;
end $$;

-- Keys of a handler of which events are missing or found no room.
create function outbox.incomplete(handler text) returns bigint
language sql stable security definer set search_path = pg_catalog, pg_temp as $$
    select count(*) from outbox.overflow o
    join outbox.handler h on h.name = o.handler and h.role = session_user where o.handler = $1
$$;

-- Notes what came of asking the log for a key's missing events: an error, and not to be asked again before `delay`; or, with
-- no error, that it gave some. `dealt` of those that had come and found no room are dealt with.
create function outbox.note_gap(handler text, topic text, key text, error text, delay interval, dealt bigint) returns void
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
begin
    perform outbox.check_handler($1);
    update outbox.overflow o
    set attempts = case when $4 is null then 0 else o.attempts + 1 end, error = left($4, 2000),
        retry_at = clock_timestamp() + $5, events = greatest(o.events - $6, 0)
    where o.handler = $1 and o.topic = $2 and o.key = $3;
end $$;

-- Keeps the two ids of one version that somebody else than the gate has found.
create function outbox.note_conflict(handler text, topic text, key text, version bigint, applied_id uuid, other_id uuid)
    returns void
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
begin
    perform outbox.check_handler($1);
    insert into outbox.conflict (handler, topic, key, version, applied_id, other_id)
    values ($1, $2, $3, $4, $5, $6) on conflict do nothing;
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

-- One page of a topic's heads, and which of them a handler has not reached though their last event was published here more
-- than `older_than` ago, is delivered, and nothing of the key waits: its tail was lost, or the handler is that far behind.
-- `page_end` is the key to go on after; null when there are no more.
create function outbox.compare(handler text, topic text, after text, older_than interval, page_max integer)
    returns table (page_end text, key text, head bigint, applied bigint)
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
#variable_conflict use_column
begin
    perform outbox.check_handler($1);
    return query
    with page as (
        select h.key, h.version, h.position from outbox.head h
        where h.topic = $2 and h.key > $3 order by h.key limit $5
    ), lost as (
        select page.key, page.version, coalesce(c.version, a.version, 0) as applied
        from page
        left join outbox.cursor c on c.handler = $1 and c.topic = $2 and c.key = page.key
        left join outbox.archived_cursor a on a.handler = $1 and a.topic = $2 and a.key = page.key
        left join outbox.event e on e.position = page.position
        where page.version > coalesce(c.version, a.version, 0) and page.position is not null
          and coalesce(c.waiting, 0) = 0 and c.awaiting_snapshot is not true
          and (c.key is not null or a.key is not null or outbox.begun($1, $2) is distinct from 'now')
          and (e.created_at is null or e.created_at < clock_timestamp() - $4)
          and not exists (select from outbox.pending q
                          where q.bucket = outbox.bucket(page.key) and q.position = page.position)
          and not exists (select from outbox.overflow o where o.handler = $1 and o.topic = $2 and o.key = page.key)
    )
    select ends.page_end, lost.key, lost.version, lost.applied
    from (select max(page.key) from page) as ends (page_end) left join lost on true;
end $$;
