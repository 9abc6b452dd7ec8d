-- The inbox: what waits in front of a cursor, parked, dead, or known by its version only.

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
-- A look-up by key must never take this for its primary key, which it could while there are hardly any rows: so whoever wants
-- this order has to say `collate "C"`. The other indexes of this kind are made alike.
create index parked_retry on outbox.parked (handler collate "C", retry_at);

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
    replaced boolean not null default false,    -- as in outbox.parked: it was edited, and was refused again
    constraint dead_letter_key unique (handler, topic, key, version)
);
create index dead_letter_group on outbox.dead_letter (handler collate "C", kind, fingerprint, id);

-- Keys of which events are known by version only: there was no room to park them, or they never came. What is missing up to
-- `version` is to be had from the producing home's log.
create table outbox.overflow (
    handler text not null,
    topic text not null,
    key text not null,
    version bigint not null,
    first bigint,                       -- the lowest version that found no room; null for a gap
    events bigint not null,             -- how many came and found no room; 0 for a gap
    attempts integer not null default 0,        -- in vain, since the last event that the log gave
    error text,
    retry_at timestamptz not null default clock_timestamp(),
    since timestamptz not null default clock_timestamp(),
    constraint overflow_pkey primary key (handler, topic, key)
);
create index overflow_retry on outbox.overflow (handler collate "C", retry_at);

-- Whether an event was known by its version only. It is kept now, and counted there no more: what brought it is a repeat.
create function outbox.found_room(handler text, topic text, key text, version bigint) returns boolean
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
begin
    update outbox.overflow o set events = o.events - 1
    where o.handler = $1 and o.topic = $2 and o.key = $3 and $4 between o.first and o.version and o.events > 0;
    return found;
end $$;

-- Parks an event in front of its cursor. Locks the cursor (made at 0 when there is none) and looks again: the event that was
-- missing may have been applied meanwhile.
--   parked  stored     again  stored before, or known by its version and stored now
--   ready   its turn has come: admit it again     passed  applied meanwhile
--   full    `parked_max` events of this handler wait already, and of ten times as many keys a version is noted: not stored
--   conflict ID  another event, ID, with this version waits: two owners wrote; kept in outbox.conflict
--   overflow  no room, noted by its version: the log has it (`known` when that was noted before)
-- An event that its handler refused or could not take parks at its own turn: `reason` says so, and it is retried. One that
-- was given up before (outbox.dead_letter) counts as parked. `per_key_max` bounds the events of one key where a log can be
-- asked for them later; null where there is none, and then `parked_max` alone stops the consumer. Neither turns away an event
-- at its own turn behind which others wait: these may have all the room, and leave only when it is applied or given up. There
-- is one such event a key, so the bound is passed by as many rows as keys had found room within it.
create function outbox.park(handler text, topic text, key text, version bigint, id uuid, payload bytea, headers jsonb,
                            reason text, error text, parked_max integer, per_key_max integer) returns text
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare
    at_ outbox.cursor;
    kept_id uuid;
    -- Keys of which a version is noted; a row of that is small beside an event.
    keys_max constant bigint := 10 * $10::bigint;
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
    if $8 = 'early' and at_.version = $4 - 1 and not at_.awaiting_snapshot then
        return 'ready';
    end if;
    if ($8 = 'early' or at_.version < $4 - 1 or at_.waiting = 0) and (at_.waiting >= $11 or $10 <= (
        select count(*) from (
            select from outbox.parked p where p.handler = $1
            union all select from outbox.dead_letter d where d.handler = $1 limit $10
        ) bounded
    )) then
        if $11 is null or not exists (
            select from outbox.overflow o where o.handler = $1 and o.topic = $2 and o.key = $3
        ) and keys_max <= (
            select count(*) from (select from outbox.overflow o where o.handler = $1 limit keys_max) bounded
        ) then
            return 'full';
        end if;
        insert into outbox.overflow as o (handler, topic, key, version, first, events) values ($1, $2, $3, $4, $4, 1)
        on conflict on constraint overflow_pkey do update
        set version = excluded.version, first = coalesce(o.first, excluded.first), events = o.events + 1
        where o.version < excluded.version;
        return case when found then 'overflow' else 'known' end;
    end if;
    insert into outbox.parked (handler, topic, key, version, id, reason, error, payload, headers, attempts, tries)
    values ($1, $2, $3, $4, $5, $8, left($9, 2000), $6, $7, ($8 = 'refused')::integer, ($8 <> 'early')::integer);
    update outbox.cursor c set waiting = c.waiting + 1 where c.handler = $1 and c.topic = $2 and c.key = $3;
    return case when outbox.found_room($1, $2, $3, $4) then 'again' else 'parked' end;
end $$;

-- The parked event of this key to try next, if any: the one whose turn it is, or one that was tried before (a snapshot has
-- its turn whenever it comes). Not before its time is up, whoever asks: each try may be an attempt.
create function outbox.next_parked(handler text, topic text, key text) returns setof outbox.parked
language sql stable security definer set search_path = pg_catalog, pg_temp as $$
    select p.* from outbox.parked p
    join outbox.cursor c on c.handler = p.handler and c.topic = p.topic and c.key = p.key
        and (p.version = c.version + 1 and not c.awaiting_snapshot or p.reason <> 'early')
    join outbox.handler h on h.name = p.handler and h.role = session_user
    where p.handler = $1 and p.topic = $2 and p.key = $3 and p.retry_at <= clock_timestamp()
    order by p.version limit 1
$$;

-- Whether an operator has put something else in the place of this event; then a redelivery of the original waits for it.
create function outbox.is_replaced(handler text, topic text, key text, version bigint, payload bytea, headers jsonb)
    returns boolean
language sql stable security definer set search_path = pg_catalog, pg_temp as $$
    select exists (
        select from (
            select p.payload, p.headers from outbox.parked p
            where p.handler = $1 and p.topic = $2 and p.key = $3 and p.version = $4 and p.replaced
            union all
            select d.payload, d.headers from outbox.dead_letter d
            where d.handler = $1 and d.topic = $2 and d.key = $3 and d.version = $4 and d.replaced
        ) instead
        join outbox.handler h on h.name = $1 and h.role = session_user
        where (instead.payload, instead.headers) is distinct from ($5, $6)
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

-- Notes that a parked event was tried again without success; it waits `delay` before the next time. Two that tried it at the
-- same time have made one attempt: the second finds it waiting.
create function outbox.retry_later(handler text, topic text, key text, version bigint, reason text, error text,
                                   delay interval) returns void
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
begin
    perform outbox.check_handler($1);
    update outbox.parked p
    set reason = $5, error = $6, retry_at = clock_timestamp() + $7,
        attempts = p.attempts + ($5 = 'refused')::integer, tries = p.tries + 1
    where p.handler = $1 and p.topic = $2 and p.key = $3 and p.version = $4 and p.retry_at <= clock_timestamp();
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
    known boolean := false;
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
        known := outbox.found_room($1, $2, $3, $4);
    elsif parked_.id is null then
        return 'again';
    end if;
    insert into outbox.dead_letter (id, handler, topic, key, version, event_id, kind, payload, headers, error, fingerprint,
                                    attempts, replaced)
    values (outbox.uuid_v7(clock_timestamp()), $1, $2, $3, $4, $5,
            left(coalesce(parked_.headers, $7) ->> 'ce_type', 200), coalesce(parked_.payload, $6), coalesce(parked_.headers, $7),
            left(coalesce($8, ''), 2000), outbox.fingerprint(left(coalesce($8, ''), 2000)), $9,
            coalesce(parked_.replaced, false));
    return case when known then 'again' else 'dead' end;
end $$;

-- What the log is to be asked for: keys of a handler whose next event is neither here nor dead, though later ones are known.
-- After `after` (and the id applied there), until `until`; `next_id` is the event kept behind the gap, if any. A key whose
-- later events were parked less than `gap_after` ago is left alone: what it misses may just be late. One that awaits a
-- snapshot (`awaiting`) misses nothing but what came and found no room: a snapshot at first, for it keeps nothing else.
create function outbox.gaps(handler text, gap_after interval, batch_max integer)
    returns table (topic text, key text, after bigint, last_id uuid, until bigint, next_id uuid, attempts integer,
                   events bigint, awaiting boolean)
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
    cross join lateral (
        select c.version, c.awaiting_snapshot from outbox.cursor c
        where c.handler = p.handler and c.topic = p.topic and c.key = p.key limit 1
    ) c
    where p.handler = $1 and p.reason = 'early' and p.parked_at <= clock_timestamp() - $2 and p.version > c.version + 1
      and not c.awaiting_snapshot
      and (select o.key from outbox.overflow o
           where o.handler = p.handler and o.topic = p.topic and o.key = p.key) is null
      and (select n.key from outbox.parked n
           where n.handler = p.handler and n.topic = p.topic and n.key = p.key and n.version = c.version + 1) is null
      and (select d.key from outbox.dead_letter d
           where d.handler = p.handler and d.topic = p.topic and d.key = p.key and d.version = c.version + 1) is null
    group by p.handler, p.topic, p.key
    order by min(p.parked_at) limit $3
    on conflict do nothing;
    return query
    select o.topic, o.key, begin_.after, case when begin_.after = c.version then c.last_id end,
           coalesce(n.version - 1, o.version), n.id, o.attempts, o.events, c.awaiting_snapshot
    from outbox.overflow o
    cross join lateral (
        select c.version, c.last_id, c.awaiting_snapshot from outbox.cursor c
        where c.handler = o.handler and c.topic = o.topic and c.key = o.key and c.version < o.version limit 1
    ) c
    cross join lateral (
        select case when c.awaiting_snapshot then greatest(c.version, o.first - 1) else c.version end as after
    ) begin_
    left join lateral (
        select kept.version, kept.id
        from (select p.version, p.id from outbox.parked p
              where p.handler = o.handler and p.topic = o.topic and p.key = o.key and p.version > c.version
              union all
              select d.version, d.event_id from outbox.dead_letter d
              where d.handler = o.handler and d.topic = o.topic and d.key = o.key and d.version > c.version) kept
        order by kept.version limit 1
    ) n on true
    where o.handler = $1 collate "C" and o.retry_at <= clock_timestamp() and (not c.awaiting_snapshot or o.events > 0)
      and (n.version is null or n.version > begin_.after + 1)
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
        delete from outbox.overflow o
        where o.handler = $1 and o.version <= (
            select c.version from outbox.cursor c where c.handler = o.handler and c.topic = o.topic and c.key = o.key
        )
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
-- no error, that it gave some. `dealt` of those that had come and found no room are dealt with; returns how many of these nobody
-- has counted before.
create function outbox.note_gap(handler text, topic text, key text, error text, delay interval, dealt bigint) returns bigint
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare
    events_ bigint;
begin
    perform outbox.check_handler($1);
    select o.events into events_ from outbox.overflow o where o.handler = $1 and o.topic = $2 and o.key = $3 for update;
    update outbox.overflow o
    set attempts = case when $4 is null then 0 else o.attempts + 1 end, error = left($4, 2000),
        retry_at = clock_timestamp() + $5, events = greatest(o.events - $6, 0)
    where o.handler = $1 and o.topic = $2 and o.key = $3;
    return least(coalesce(events_, 0), $6);
end $$;

-- Keys of a handler with a parked event to try whose time is up, for the sweep.
create function outbox.due(handler text, batch_max integer) returns table (topic text, key text)
language sql stable security definer set search_path = pg_catalog, pg_temp as $$
    select p.topic, p.key from outbox.parked p
    join outbox.cursor c on c.handler = p.handler and c.topic = p.topic and c.key = p.key
        and (p.version = c.version + 1 and not c.awaiting_snapshot or p.reason <> 'early')
    join outbox.handler h on h.name = p.handler and h.role = session_user
    where p.handler = $1 collate "C" and p.retry_at <= now()
    order by p.retry_at limit $2
$$;
