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

-- What is in quarantine, oldest first. The event's columns are null when the log has lost it.
create view outbox.quarantine as
select q.bucket, q.position, q.created_at, q.quarantined_at, q.attempts, q.error,
       e.topic, e.key, e.version, e.id, e.kind
from outbox.pending q
left join outbox.event e on e.position = q.position and e.created_at = q.created_at
where q.quarantined_at is not null;

-- Locks the quarantined row of an event, or says that there is none.
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
        raise no_data_found using message = format('version %s of %s in %s is not in quarantine', $3, $2, $1),
            hint = 'select topic, key, version from outbox.quarantine';
    end if;
    return row_;
end $$;

-- Has a quarantined event sent again, with all its attempts. The rest of its key follows when it is delivered.
create function outbox.resend(topic text, key text, version bigint, actor text, reason text) returns void
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare
    row_ outbox.pending := outbox.lock_quarantined($1, $2, $3);
begin
    update outbox.pending p set quarantined_at = null, attempts = 0, retry_at = clock_timestamp()
    where p.bucket = row_.bucket and p.position = row_.position;
    perform outbox.note_audit($4, 'resend', jsonb_build_object('topic', $1, 'key', $2, 'version', $3,
        'attempts', row_.attempts, 'error', row_.error), $5);
end $$;

-- Puts a filler in the place of a quarantined event: the same id and version, kind outbox.skipped.v1, no payload. Handlers
-- pass over it; a replica waits for a snapshot. Refused for version 1 and for kinds in outbox.never_skipped: these can only
-- be sent again.
create function outbox.skip(topic text, key text, version bigint, actor text, reason text) returns void
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare
    row_ outbox.pending := outbox.lock_quarantined($1, $2, $3);
    event_ outbox.event;
begin
    select e.* into event_ from outbox.event e where e.position = row_.position and e.created_at = row_.created_at;
    if $3 = 1 then
        raise object_not_in_prerequisite_state using
            message = format('version 1 of %s in %s opens its stream and can''t be skipped', $2, $1),
            hint = 'mend what refuses it, then outbox.resend';
    elsif exists (select from outbox.never_skipped n where n.kind = event_.kind) then
        raise object_not_in_prerequisite_state using
            message = format('events of kind %s can''t be skipped', event_.kind),
            hint = 'mend what refuses it, then outbox.resend';
    end if;
    insert into outbox.skipped (id, topic, key, version, kind, payload, headers, error)
    values (event_.id, $1, $2, $3, event_.kind, event_.payload, event_.headers, row_.error)
    on conflict do nothing;     -- a filler that was refused itself: the first is the event
    update outbox.event e set kind = 'outbox.skipped.v1', payload = '', headers = e.headers - 'content-type'
    where e.position = row_.position and e.created_at = row_.created_at;
    update outbox.pending p set quarantined_at = null, attempts = 0, retry_at = clock_timestamp()
    where p.bucket = row_.bucket and p.position = row_.position;
    perform outbox.note_audit($4, 'skip', jsonb_build_object('topic', $1, 'key', $2, 'version', $3,
        'kind', event_.kind, 'attempts', row_.attempts, 'error', row_.error), $5);
end $$;

revoke execute on function outbox.lock_quarantined(text, text, bigint), outbox.resend(text, text, bigint, text, text),
    outbox.skip(text, text, bigint, text, text) from public;
insert into outbox.operator_function (signature) values
    ('outbox.resend(text, text, bigint, text, text)'), ('outbox.skip(text, text, bigint, text, text)');
