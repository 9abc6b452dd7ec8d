-- The inbox: the gate in front of each effect.

-- The cursor that a key has before its first event is met: 0, or under the baseline `now` the version before that event.
create function outbox.opening(handler text, topic text, version bigint) returns bigint
language sql stable security definer set search_path = pg_catalog, pg_temp as $$
    select case outbox.begun($1, $2) when 'now' then $3 - 1 else 0 end
$$;

-- Those of the keys that a handler which began `now` has never met. A replay of one brings what was left out for good.
create function outbox.unmet(handler text, topic text, keys text[]) returns setof text
language sql stable security definer set search_path = pg_catalog, pg_temp as $$
    select k from unnest($3) k
    where outbox.begun($1, $2) = 'now'
      and not exists (select from outbox.cursor c where c.handler = $1 and c.topic = $2 and c.key = k)
      and not exists (select from outbox.archived_cursor a where a.handler = $1 and a.topic = $2 and a.key = k)
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
    perform from (select k from unnest($3) k order by k) asked (key)
    cross join lateral (
        select from outbox.cursor c where c.handler = $1 and c.topic = $2 and c.key = asked.key limit 1 for update
    ) locked;
    return query
    with run as (
        select r.*, was.version, was.last_id, was.moves, was.place
        from unnest($3, $4, $5, $6, $7) with ordinality as r (key, first, last, id, own_last, n)
        left join lateral (
            select c.version, c.last_id, c.ctid as place,
                   c.version = r.first - 1 and c.waiting = 0 and not c.awaiting_snapshot as moves
            from outbox.cursor c where c.handler = $1 and c.topic = $2 and c.key = r.key limit 1
        ) was on true
    ), moved as (
        update outbox.cursor c set version = run.last, last_id = run.id, applied_at = clock_timestamp()
        -- Once more on the row as it is: one that came after the locks were taken may have moved since.
        from run
        where run.moves and c.ctid = run.place
          and c.version = run.first - 1 and c.waiting = 0 and not c.awaiting_snapshot
        returning run.n
    ), opened as (
        insert into outbox.cursor as c (handler, topic, key, version, last_id, applied_at)
        select $1, $2, run.key, run.last, run.id, clock_timestamp() from run where run.first = 1 order by run.key
        on conflict do nothing
        returning c.key
    )
    select run.n::integer, run.n in (select moved.n from moved) or run.key in (select opened.key from opened),
           run.version, run.last_id, case when run.own_last > coalesce(h.version, 0) then outbox.head_version($2, run.key) end
    from run
    left join lateral (
        select h.version from outbox.head h where run.own_last is not null and h.topic = $2 and h.key = run.key limit 1
    ) h on true;
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
create index applied_id_age on outbox.applied_id (handler collate "C", applied_at);

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
        where o.handler = $1 collate "C" and o.applied_at < clock_timestamp() - $2 order by o.applied_at limit $3
    ) old where a.ctid = old.ctid;
    get diagnostics gone = row_count;
    return gone;
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
