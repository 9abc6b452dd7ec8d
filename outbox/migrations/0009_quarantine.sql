-- Quarantine: rows that the broker refused too often. They and their keys wait for an operator, who has them sent again, or
-- puts a filler in the place of the event. Never a hole: whoever counts versions would wait for ever.

-- Kinds that can only be sent again, such as events that move authority.
create table outbox.never_skipped (
    kind text primary key
);

-- The events that a filler took the place of, as they were.
create table outbox.skipped (
    id uuid primary key,
    topic text not null,
    key text not null,
    version bigint not null,
    kind text not null,
    payload bytea not null,
    headers jsonb not null,
    error text,                     -- the last refusal
    skipped_at timestamptz not null default clock_timestamp()
);

-- What is in quarantine, oldest first. The event's columns are null when the log has lost it; outbox.lost_event tells them.
create view outbox.quarantine as
select q.bucket, q.position, q.created_at, q.quarantined_at, q.attempts, q.error,
       e.topic, e.key, e.version, e.id, e.kind
from outbox.pending q
left join outbox.event e on e.position = q.position and e.created_at = q.created_at
where q.quarantined_at is not null;

-- Which event stood at a position of the queue whose event the log has lost, such as a quarantined one of a day that was dropped
-- by force: the key's next event names it as the one before, or the key's head does. Where those behind it are lost too, their
-- rows lead up to one that is named. Reads the log or all heads; by hand only.
create function outbox.lost_event(at_position bigint) returns table (topic text, key text, version bigint)
language sql stable security definer set search_path = pg_catalog, pg_temp as $$
    with recursive up as (
        select p.bucket, p.position, 0 as n from outbox.pending p where p.position = $1
        union all
        select p.bucket, p.position, up.n + 1
        from up join outbox.pending p on p.bucket = up.bucket and p.previous = up.position and p.position > up.position
    ), named as (
        select e.topic, e.key, e.version - 1 - up.n as version, up.n
        from up join outbox.event e on e.previous = up.position
        union all
        select h.topic, h.key, h.version - up.n, up.n from up join outbox.head h on h.position = up.position
    )
    select named.topic, named.key, named.version from named order by named.n limit 1
$$;

-- The quarantined row of a version whose event the log has lost. From the head down, row by row: all versions behind a row in
-- quarantine are in the queue. An event that is there says its version; of a lost one it is the version behind it less one.
create function outbox.lost_row(topic text, key text, version bigint) returns outbox.pending
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare
    row_ outbox.pending;
    at_ bigint;
    version_ bigint;
    told bigint;
begin
    select h.position, h.version into at_, version_ from outbox.head h where h.topic = $1 and h.key = $2;
    while at_ is not null and version_ >= $3 loop
        select p.* into row_ from outbox.pending p where p.bucket = outbox.bucket($2) and p.position = at_;
        exit when not found;
        select e.version into told from outbox.event e where e.position = at_ and e.created_at = row_.created_at;
        version_ := coalesce(told, version_);
        if version_ = $3 then
            select p.* into row_ from outbox.pending p
            where p.bucket = row_.bucket and p.position = at_ and p.quarantined_at is not null and told is null for update;
            return row_;
        end if;
        at_ := row_.previous;
        version_ := version_ - 1;
    end loop;
    return null;
end $$;

-- Locks the quarantined row of an event, or says that there is none. A day that was detached by hand, and not dropped, has its
-- events still: it is attached again.
create function outbox.lock_quarantined(topic text, key text, version bigint) returns outbox.pending
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare
    row_ outbox.pending;
begin
    select p.* into row_ from outbox.pending p
    join outbox.event e on e.position = p.position and e.created_at = p.created_at
    where p.bucket = outbox.bucket($2) and p.quarantined_at is not null
      and e.topic = $1 and e.key = $2 and e.version = $3
    for update of p;
    if not found then
        row_ := outbox.lost_row($1, $2, $3);
        if to_regclass('outbox.event_' || to_char(row_.created_at at time zone 'UTC', 'YYYYMMDD')) is not null
            and outbox.make_partition('event', (row_.created_at at time zone 'UTC')::date) then
            return outbox.lock_quarantined($1, $2, $3);
        end if;
    end if;
    if row_.position is null then
        raise no_data_found using message = format('version %s of %s in %s is not in quarantine', $3, $2, $1),
            hint = 'select position, topic, key, version from outbox.quarantine; of a row without a topic outbox.lost_event(position)';
    end if;
    return row_;
end $$;

-- Has a quarantined event sent again, with all its attempts. The rest of its key follows when it is delivered.
create function outbox.resend(topic text, key text, version bigint, actor text, reason text) returns void
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare
    row_ outbox.pending := outbox.lock_quarantined($1, $2, $3);
begin
    if not exists (select from outbox.event e where e.position = row_.position and e.created_at = row_.created_at) then
        raise object_not_in_prerequisite_state using
            message = format('the log has lost version %s of %s in %s: it can only be skipped', $3, $2, $1),
            hint = 'outbox.skip';
    end if;
    update outbox.pending p set quarantined_at = null, attempts = 0, retry_at = clock_timestamp()
    where p.bucket = row_.bucket and p.position = row_.position;
    perform outbox.note_audit($4, 'resend', jsonb_build_object('topic', $1, 'key', $2, 'version', $3,
        'attempts', row_.attempts, 'error', row_.error), $5);
end $$;

-- Writes a filler where the log has lost an event. Its day is made again if it is gone. The id is the lost one's if the head still
-- names it, else a new one. Whoever has the lost one all the same, because only the report of its delivery was lost, notes a conflict.
create function outbox.make_filler(row_ outbox.pending, topic text, key text, version bigint) returns void
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
begin
    perform outbox.make_partition('event', (row_.created_at at time zone 'UTC')::date);
    insert into outbox.event (position, created_at, id, bucket, topic, key, version, kind, origin, payload, headers, previous)
    values (row_.position, row_.created_at,
            coalesce((select h.last_id from outbox.head h where h.topic = $2 and h.key = $3 and h.version = $4),
                     outbox.uuid_v7(row_.created_at)),
            row_.bucket, $2, $3, $4, 'outbox.skipped.v1',
            (select min(o.origin) from outbox.origin o where $2 = any (o.topics)), '', '{}', row_.previous);
end $$;

-- Puts a filler in the place of a quarantined event: the same id and version, kind outbox.skipped.v1, no payload. Handlers
-- pass over it; a replica waits for a snapshot. Refused for version 1 and for kinds in outbox.never_skipped: these can only
-- be sent again. An event that the log has lost can't be sent again: its filler is made anew, whatever it was.
create function outbox.skip(topic text, key text, version bigint, actor text, reason text) returns void
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare
    row_ outbox.pending := outbox.lock_quarantined($1, $2, $3);
    event_ outbox.event;
begin
    select e.* into event_ from outbox.event e where e.position = row_.position and e.created_at = row_.created_at;
    if not found then
        perform outbox.make_filler(row_, $1, $2, $3);
    elsif $3 = 1 then
        raise object_not_in_prerequisite_state using
            message = format('version 1 of %s in %s opens its stream and can''t be skipped', $2, $1),
            hint = 'mend what refuses it, then outbox.resend';
    elsif exists (select from outbox.never_skipped n where n.kind = event_.kind) then
        raise object_not_in_prerequisite_state using
            message = format('events of kind %s can''t be skipped', event_.kind),
            hint = 'mend what refuses it, then outbox.resend';
    else
        insert into outbox.skipped (id, topic, key, version, kind, payload, headers, error)
        values (event_.id, $1, $2, $3, event_.kind, event_.payload, event_.headers, row_.error)
        on conflict do nothing;     -- a filler that was refused itself: the first is the event
        update outbox.event e set kind = 'outbox.skipped.v1', payload = '', headers = e.headers - 'content-type'
        where e.position = row_.position and e.created_at = row_.created_at;
    end if;
    update outbox.pending p set quarantined_at = null, attempts = 0, retry_at = clock_timestamp()
    where p.bucket = row_.bucket and p.position = row_.position;
    perform outbox.note_audit($4, 'skip', jsonb_build_object('topic', $1, 'key', $2, 'version', $3,
        'kind', coalesce(event_.kind, 'lost'), 'attempts', row_.attempts, 'error', row_.error), $5);
end $$;

revoke execute on function outbox.lost_event(bigint), outbox.lost_row(text, text, bigint),
    outbox.lock_quarantined(text, text, bigint), outbox.make_filler(outbox.pending, text, text, bigint),
    outbox.resend(text, text, bigint, text, text), outbox.skip(text, text, bigint, text, text) from public;
insert into outbox.operator_function (signature) values
    ('outbox.lost_event(bigint)'),
    ('outbox.resend(text, text, bigint, text, text)'), ('outbox.skip(text, text, bigint, text, text)');
