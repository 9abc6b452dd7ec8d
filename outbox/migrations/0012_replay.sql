-- Replay: what the log holds, once more, to Kafka or to one handler; and a handler's cursor set back.

-- The events of a key that are in the log here, from the last one down to (not with) position `after`, at most `most` (null: all).
-- Follows the chain from the head, so it needs no index; it ends where retention has cut the log.
create function outbox.chain(topic text, key text, after bigint default 0, most integer default null)
    returns table (at_position bigint, at_time timestamptz, version bigint)
language plpgsql stable security definer set search_path = pg_catalog, pg_temp as $$
declare
    next_ bigint := coalesce((select h.position from outbox.head h where h.topic = $1 and h.key = $2),
                             (select a.position from outbox.archived_head a where a.topic = $1 and a.key = $2));
    left_ bigint := coalesce($4, 9223372036854775807);
begin
    while next_ > $3 and left_ > 0 loop
        left_ := left_ - 1;
        select e.position, e.created_at, e.version, e.previous into at_position, at_time, version, next_
        from outbox.event e where e.position = next_;
        exit when not found;
        return next;
    end loop;
end $$;

-- The headers of an event's record, as a relay writes them.
create function outbox.record_headers(event outbox.event) returns jsonb
language sql stable set search_path = pg_catalog, pg_temp as $$
    select coalesce((select jsonb_object_agg(h.key, h.value) from jsonb_each($1.headers) h
                     where h.key !~ '^(ce_|banyan-)'), '{}') || jsonb_build_object(
        'ce_specversion', '1.0', 'ce_id', $1.id, 'ce_source', $1.origin, 'ce_type', $1.kind, 'ce_subject', $1.key,
        'ce_time', regexp_replace(to_char($1.created_at at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US'), '\.?0+$', '')
                   || 'Z',
        'banyan-version', $1.version::text, 'banyan-origin', $1.origin)
$$;

-- Replays that were asked for. One that nobody has gone on with for a day is over: until then its days are not dropped.
create table outbox.replay (
    id bigint generated always as identity primary key,
    topic text not null,
    key text,                       -- null: all keys, by time
    since timestamptz not null,
    until timestamptz not null,     -- not with it
    first bigint not null default 1,
    last bigint not null default 9223372036854775807,
    handler text references outbox.handler (name),      -- null: to Kafka
    position bigint not null default 0,                 -- of the last event dealt with
    delivered bigint not null default 0,                -- records sent, or events put before the handler's gate
    passed bigint not null default 0,                   -- not delivered a first time yet, or applied or waiting at the handler
    asked_at timestamptz not null default clock_timestamp(),
    touched_at timestamptz not null default clock_timestamp(),
    ended_at timestamptz,
    cancelled boolean not null default false
);

-- Asks for a replay and returns its id. `key` null: all events of the topic from `since` until `until`; else the key's versions
-- `first` to `last` (null: from the first or to the last one in the log). `handler` null: to Kafka. 22023 when the log does not
-- hold what is asked for; of a key, it names the first version that is not there.
create function outbox.ask_replay(topic text, key text, since timestamptz, until timestamptz, first bigint, last bigint,
                                  handler text, actor text, reason text) returns bigint
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare
    begins timestamptz := (
        select to_date(right(min(c.relname), 8), 'YYYYMMDD')::timestamp at time zone 'UTC'
        from pg_inherits i join pg_class c on c.oid = i.inhrelid
        where i.inhparent = to_regclass('outbox.event') and not i.inhdetachpending);
    oldest record;
    missing bigint;
    id_ bigint;
begin
    -- With retention's lock, so that what is found here is there until the row below keeps it.
    perform pg_advisory_xact_lock_shared(hashtext('outbox.retention'));
    if $7 is not null and not exists (select from outbox.cursor c where c.handler = $7 and c.topic = $1) then
        raise invalid_parameter_value using message = format('handler %s has not met topic %s', $7, $1);
    end if;
    if $2 is null then
        if $3 is null or $4 is null or $3 >= $4 then
            raise invalid_parameter_value using message = 'a replay without a key needs a time since and a later one until';
        elsif $3 < begins then
            raise invalid_parameter_value using message = format('the log begins at %s', begins);
        end if;
        insert into outbox.replay (topic, since, until, handler) values ($1, $3, $4, $7) returning replay.id into id_;
    else
        -- Another home may have published versions in between: the chain goes on below them.
        select min(c.at_time) as since, max(c.at_time) as until, count(*) as events, min(c.version) as first,
               max(c.version) as last, min(c.below + 1) filter (where c.below + 1 < c.version) as hole
        into oldest from (
            select k.at_time, k.version, lag(k.version) over (order by k.version) as below from outbox.chain($1, $2) k
            where k.version >= coalesce($5, 1) and k.version <= coalesce($6, 9223372036854775807)
        ) c;
        missing := case when oldest.events = 0 then coalesce($5, 1) when $5 < oldest.first then $5
                        when oldest.hole is not null then oldest.hole when $6 > oldest.last then oldest.last + 1 end;
        if missing is not null then
            raise invalid_parameter_value using message = format('version %s of %s/%s is not in this log', missing, $1, $2);
        end if;
        insert into outbox.replay (topic, key, since, until, first, last, handler)
        values ($1, $2, oldest.since, oldest.until + interval '1 microsecond', oldest.first, oldest.last, $7)
        returning replay.id into id_;
    end if;
    perform outbox.note_audit($8, 'replay', jsonb_strip_nulls(jsonb_build_object('replay', id_, 'topic', $1, 'key', $2,
        'since', $3, 'until', $4, 'first', $5, 'last', $6, 'handler', $7)), $9);
    return id_;
end $$;

-- Asks for a replay to Kafka of a dead letter's event. 22023 when it is another home's and so not in this log.
create function outbox.ask_replay_of_letter(letter uuid, actor text, reason text) returns bigint
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare
    at_ outbox.dead_letter;
begin
    select d.* into at_ from outbox.dead_letter d where d.id = $1;
    if not found then
        raise invalid_parameter_value using message = format('there is no dead letter %s', $1);
    end if;
    return outbox.ask_replay(at_.topic, at_.key, null, null, at_.version, at_.version, null, $2, $3);
end $$;

-- The open replay, locked until the transaction ends. 22023 when there is none, it has ended, or nobody went on with it for a day.
create function outbox.open_replay(id bigint) returns outbox.replay
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare
    at_ outbox.replay;
begin
    perform pg_advisory_xact_lock_shared(hashtext('outbox.retention'));
    update outbox.replay r set touched_at = clock_timestamp()
    where r.id = $1 and r.ended_at is null and r.touched_at > clock_timestamp() - interval '1 day'
    returning r.* into at_;
    if not found then
        raise invalid_parameter_value using message = format('replay %s is not open', $1),
            hint = 'it has ended, was cancelled, or nobody went on with it for a day: ask for another';
    end if;
    return at_;
end $$;

-- The next events of a replay, in the order of their positions, at most `events_max`; `pending`: not delivered a first time yet,
-- or given up for now, which a replay must not overtake.
create function outbox.replay_next(at_ outbox.replay, events_max integer)
    returns table (event outbox.event, pending boolean)
language plpgsql stable security definer set search_path = pg_catalog, pg_temp as $$
begin
    return query
    select next.e, exists (select from outbox.pending p where p.bucket = (next.e).bucket and p.position = (next.e).position)
    from (
        -- Each by its primary key: the chain must not be joined with whole days.
        select found.e from (
            select c.at_position, c.at_time from outbox.chain($1.topic, $1.key, $1.position) c
            where $1.key is not null and c.version >= $1.first and c.version <= $1.last
            order by c.at_position limit $2
        ) c
        cross join lateral (
            select e from outbox.event e where e.position = c.at_position and e.created_at = c.at_time limit 1
        ) found
        union all
        (select e from outbox.event e
         where $1.key is null and e.topic = $1.topic and e.created_at >= $1.since and e.created_at < $1.until
           and e.position > $1.position
         order by e.position limit $2)
    ) next
    order by (next.e).position;
end $$;

-- The next batch of a replay to Kafka.
create function outbox.replay_batch(id bigint, events_max integer)
    returns table (last_position bigint, pending boolean, event_id uuid, created_at timestamptz, topic text, key text,
                   version bigint, kind text, origin text, payload bytea, headers jsonb)
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare
    at_ outbox.replay := outbox.open_replay($1);
begin
    if at_.handler is not null then
        raise invalid_parameter_value using message = format('replay %s is for handler %s', $1, at_.handler);
    end if;
    return query
    select (n.event).position, n.pending, (n.event).id, (n.event).created_at, (n.event).topic, (n.event).key,
           (n.event).version, (n.event).kind, (n.event).origin, (n.event).payload, (n.event).headers
    from outbox.replay_next(at_, $2) n;
end $$;

-- Notes how far a replay is; without a position, that it has ended. False when somebody else has noted meanwhile.
create function outbox.note_replay(id bigint, before bigint, after bigint, delivered bigint, passed bigint) returns boolean
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
begin
    update outbox.replay r
    set position = coalesce($3, r.position), delivered = r.delivered + $4, passed = r.passed + $5,
        touched_at = clock_timestamp(), ended_at = case when $3 is null then clock_timestamp() end
    where r.id = $1 and r.position = $2 and r.ended_at is null;
    return found;
end $$;

-- Puts the next batch of a replay before its handler's gate: events that it has neither applied nor waiting are parked, and taken
-- in their turn. Returns how many were looked at: 0 when the replay has ended, null when `parked_max` events of the handler wait.
create function outbox.redeliver_batch(id bigint, events_max integer, parked_max integer) returns integer
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare
    at_ outbox.replay := outbox.open_replay($1);
    next_ record;
    each outbox.event;
    applied bigint;
    looked integer := 0;
    delivered_ integer := 0;
    last_ bigint := at_.position;
    room integer;
begin
    if at_.handler is null then
        raise invalid_parameter_value using message = format('replay %s is for Kafka', $1);
    end if;
    room := $3 - (select count(*) from (select from outbox.parked p where p.handler = at_.handler limit $3) bounded);
    if room <= 0 then
        return null;
    end if;
    for next_ in
        select n.event, n.pending from outbox.replay_next(at_, least($2, room)) n
        order by (n.event).key, (n.event).version
    loop
        each := next_.event;
        looked := looked + 1;
        last_ := greatest(last_, each.position);
        continue when next_.pending;
        applied := outbox.lock_cursor(at_.handler, each.topic, each.key, each.version);
        continue when each.version <= applied
            or exists (select from outbox.dead_letter d where d.handler = at_.handler and d.topic = each.topic
                           and d.key = each.key and d.version = each.version);
        insert into outbox.parked (handler, topic, key, version, id, reason, payload, headers)
        values (at_.handler, each.topic, each.key, each.version, each.id, 'early', each.payload, outbox.record_headers(each))
        on conflict do nothing;
        continue when not found;
        delivered_ := delivered_ + 1;
        update outbox.cursor c set waiting = c.waiting + 1
        where c.handler = at_.handler and c.topic = each.topic and c.key = each.key;
    end loop;
    perform outbox.note_replay($1, at_.position, nullif(last_, at_.position), delivered_, looked - delivered_);
    return looked;
end $$;

-- Locks a key's cursor and returns its version. Where there is none it is taken from the archive, or made as the gate would make it
-- that meets `version` first.
create function outbox.lock_cursor(handler text, topic text, key text, version bigint) returns bigint
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare
    version_ bigint;
begin
    insert into outbox.cursor (handler, topic, key, version) values ($1, $2, $3, outbox.opening($1, $2, $4))
    on conflict do nothing;
    select c.version into version_ from outbox.cursor c
    where c.handler = $1 and c.topic = $2 and c.key = $3 for update;
    return version_;
end $$;

-- Ends a replay before its end; what was delivered stays delivered. False when it is not open.
create function outbox.cancel_replay(id bigint, actor text, reason text) returns boolean
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
begin
    update outbox.replay r set ended_at = clock_timestamp(), cancelled = true where r.id = $1 and r.ended_at is null;
    if found then
        perform outbox.note_audit($2, 'cancel_replay', jsonb_build_object('replay', $1), $3);
        return true;
    end if;
    return false;
end $$;

-- Sets a handler's cursor of one key back to `version`, so that what it applied after that is applied AGAIN: its effects double
-- unless the handler undoes or ignores them. All of it must be in this log, at most 1,000 events. Returns how many. 22023 says
-- what is in the way.
create function outbox.rewind(handler text, topic text, key text, version bigint, actor text, reason text) returns integer
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare
    at_ outbox.cursor;
    again bigint;
    stored bigint;
begin
    perform pg_advisory_xact_lock_shared(hashtext('outbox.retention'));
    if not exists (select from outbox.handler h where h.name = $1) then
        raise invalid_parameter_value using message = format('there is no handler %s', $1);
    end if;
    -- One that is made here is at 0: too early for any rewind, so it is undone.
    perform outbox.lock_cursor($1, $2, $3, 1);
    select c.* into at_ from outbox.cursor c where c.handler = $1 and c.topic = $2 and c.key = $3;
    again := at_.version - $4;
    if $4 < 0 or again <= 0 or again > 1000 then
        raise invalid_parameter_value using
            message = format('handler %s is at version %s of %s/%s: a rewind goes 1 to 1000 versions back, and not below 0',
                             $1, at_.version, $2, $3);
    end if;
    if at_.awaiting_snapshot then
        raise invalid_parameter_value using message = 'the key awaits a snapshot: that is its way back';
    end if;
    insert into outbox.parked (handler, topic, key, version, id, reason, payload, headers)
    select $1, $2, $3, (found.e).version, (found.e).id, 'early', (found.e).payload, outbox.record_headers(found.e)
    from outbox.chain($2, $3) c
    cross join lateral (
        select e from outbox.event e where e.position = c.at_position and e.created_at = c.at_time limit 1
    ) found
    where c.version > $4 and c.version <= at_.version
      and not exists (select from outbox.pending p where p.bucket = (found.e).bucket and p.position = (found.e).position)
    on conflict do nothing;
    get diagnostics stored = row_count;
    if stored <> again then
        raise invalid_parameter_value using
            message = format('only %s of the %s events to apply again are in this log', stored, again);
    end if;
    update outbox.cursor c
    set version = $4, waiting = c.waiting + again::integer, applied_at = null,
        last_id = (select e.id from outbox.chain($2, $3) k join outbox.event e on e.position = k.at_position
                   where k.version = $4)
    where c.handler = $1 and c.topic = $2 and c.key = $3;
    perform outbox.note_audit($5, 'rewind', jsonb_build_object('handler', $1, 'topic', $2, 'key', $3,
        'from', at_.version, 'to', $4), $6);
    return again;
end $$;

revoke execute on function outbox.chain(text, text, bigint, integer), outbox.record_headers(outbox.event),
    outbox.ask_replay(text, text, timestamptz, timestamptz, bigint, bigint, text, text, text),
    outbox.ask_replay_of_letter(uuid, text, text), outbox.open_replay(bigint), outbox.replay_next(outbox.replay, integer),
    outbox.replay_batch(bigint, integer), outbox.note_replay(bigint, bigint, bigint, bigint, bigint),
    outbox.redeliver_batch(bigint, integer, integer), outbox.lock_cursor(text, text, text, bigint),
    outbox.cancel_replay(bigint, text, text), outbox.rewind(text, text, text, bigint, text, text) from public;
insert into outbox.operator_function (signature) values
    ('outbox.chain(text, text, bigint, integer)'),
    ('outbox.ask_replay(text, text, timestamptz, timestamptz, bigint, bigint, text, text, text)'),
    ('outbox.ask_replay_of_letter(uuid, text, text)'), ('outbox.replay_batch(bigint, integer)'),
    ('outbox.note_replay(bigint, bigint, bigint, bigint, bigint)'), ('outbox.redeliver_batch(bigint, integer, integer)'),
    ('outbox.cancel_replay(bigint, text, text)'), ('outbox.rewind(text, text, text, bigint, text, text)');
