-- What operators do with dead letters, and the log's answer to an inbox that misses events.

-- What an edit or a discard took away, as it was.
create table outbox.audit_original (
    audit bigint primary key references outbox.audit (id),
    payload bytea,
    headers jsonb not null
);

-- Takes a dead letter back to what is parked, with another payload or other headers if given, so that its turn comes through
-- the gate like any other's. Null when it is gone: replayed or discarded by someone else, or its event applied after all.
create function outbox.lift(letter uuid, payload bytea, headers jsonb) returns outbox.dead_letter
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare
    letter_ outbox.dead_letter;
    version_ bigint;
begin
    select d.* into letter_ from outbox.dead_letter d where d.id = $1;
    -- The cursor first, as everyone does; only then the letter, and whether it is still there.
    select c.version into version_ from outbox.cursor c
    where c.handler = letter_.handler and c.topic = letter_.topic and c.key = letter_.key for update;
    delete from outbox.dead_letter d where d.id = $1 returning d.* into letter_;
    if not found then
        return null;
    end if;
    if version_ >= letter_.version then
        update outbox.cursor c set waiting = c.waiting - 1
        where c.handler = letter_.handler and c.topic = letter_.topic and c.key = letter_.key;
        return null;
    end if;
    insert into outbox.parked (handler, topic, key, version, id, reason, error, payload, headers, replaced)
    values (letter_.handler, letter_.topic, letter_.key, letter_.version, letter_.event_id, 'failed', letter_.error,
            coalesce($2, letter_.payload), coalesce($3, letter_.headers), $2 is not null or letter_.replaced);
    return letter_;
end $$;

-- What the audit says of a letter.
create function outbox.letter_subject(letter outbox.dead_letter) returns jsonb
language sql immutable set search_path = pg_catalog, pg_temp as $$
    select jsonb_build_object('letter', $1.id, 'handler', $1.handler, 'topic', $1.topic, 'key', $1.key,
        'version', $1.version, 'id', $1.event_id, 'kind', $1.kind, 'attempts', $1.attempts, 'error', $1.error)
$$;

-- Those of the letters that are there, in the order in which outbox.admit_runs locks cursors: as the database sorts keys. At
-- most 1,000.
create function outbox.letters_in_order(letters uuid[]) returns setof uuid
language plpgsql stable security definer set search_path = pg_catalog, pg_temp as $$
begin
    if cardinality($1) > 1000 then
        raise invalid_parameter_value using message = format('%s dead letters at once; 1000 are allowed', cardinality($1));
    end if;
    return query select d.id from outbox.dead_letter d where d.id = any ($1)
    order by d.handler, d.topic, d.key, d.version;
end $$;

-- Has dead letters tried again as they are, with all their attempts, and returns how many. One that is gone is passed over.
create function outbox.replay_dead_letters(letters uuid[], actor text, reason text) returns integer
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare
    id_ uuid;
    letter_ outbox.dead_letter;
    done integer := 0;
begin
    for id_ in select outbox.letters_in_order($1) loop
        letter_ := outbox.lift(id_, null, null);
        if letter_.id is not null then
            perform outbox.note_audit($2, 'replay_dead_letter', outbox.letter_subject(letter_), $3);
            done := done + 1;
        end if;
    end loop;
    return done;
end $$;

-- Has a dead letter tried again with another payload; its version, id, kind and other headers stay. The caller has made sure
-- that the payload decodes. False when the letter is gone.
create function outbox.edit_dead_letter(letter uuid, payload bytea, actor text, reason text) returns boolean
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare
    letter_ outbox.dead_letter;
begin
    if octet_length($2) > 900000 then
        raise check_violation using message = format('the payload has %s bytes; 900000 are allowed', octet_length($2));
    end if;
    letter_ := outbox.lift($1, $2, null);
    if letter_.id is null then
        return false;
    end if;
    insert into outbox.audit_original (audit, payload, headers)
    values (outbox.note_audit($3, 'edit_dead_letter', outbox.letter_subject(letter_)
                || jsonb_build_object('sha256', encode(sha256($2), 'hex')), $4),
            letter_.payload, letter_.headers);
    return true;
end $$;

-- Gives dead letters up for good and returns how many. A filler with the same version and id takes the place of each, so that
-- the gate moves the cursor by one and the key goes on; a replica waits for a snapshot. Refused for kinds that
-- outbox.never_skipped names.
create function outbox.discard_dead_letters(letters uuid[], actor text, reason text) returns integer
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare
    id_ uuid;
    letter_ outbox.dead_letter;
    filler jsonb;
    done integer := 0;
begin
    for id_ in select outbox.letters_in_order($1) loop
        select d.* into letter_ from outbox.dead_letter d where d.id = id_;
        if exists (select from outbox.never_skipped n where n.kind = letter_.kind) then
            raise object_not_in_prerequisite_state using
                message = format('events of kind %s can''t be discarded', letter_.kind),
                hint = 'mend what refuses it, then outbox.replay_dead_letters';
        end if;
        filler := letter_.headers - 'content-type' || jsonb_build_object('ce_type', 'outbox.skipped.v1');
        letter_ := outbox.lift(id_, ''::bytea, filler);
        if letter_.id is not null then
            insert into outbox.audit_original (audit, payload, headers)
            values (outbox.note_audit($2, 'discard_dead_letter', outbox.letter_subject(letter_), $3),
                    letter_.payload, letter_.headers);
            done := done + 1;
        end if;
    end loop;
    return done;
end $$;

-- Notes that someone has looked at an unreadable record. It stays, so that a redelivery does not bring it back. False when it
-- is not there or was discarded before.
create function outbox.discard_unreadable(consumer_group text, topic text, partition integer, record_offset bigint,
                                          actor text, reason text) returns boolean
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare
    error_ text;
begin
    update outbox.unreadable u set discarded_at = clock_timestamp()
    where u.consumer_group = $1 and u.topic = $2 and u.partition = $3 and u.record_offset = $4 and u.discarded_at is null
    returning u.error into error_;
    if not found then
        return false;
    end if;
    perform outbox.note_audit($5, 'discard_unreadable', jsonb_build_object('group', $1, 'topic', $2, 'partition', $3,
        'offset', $4, 'error', error_), $6);
    return true;
end $$;

-- Notes that someone has looked into a conflict. It stays, so that a redelivery does not bring it back. False when it is not
-- there or was settled before.
create function outbox.settle_conflict(handler text, topic text, key text, version bigint, other_id uuid,
                                       actor text, reason text) returns boolean
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare
    applied_id_ uuid;
begin
    update outbox.conflict c set settled_at = clock_timestamp()
    where c.handler = $1 and c.topic = $2 and c.key = $3 and c.version = $4 and c.other_id = $5 and c.settled_at is null
    returning c.applied_id into applied_id_;
    if not found then
        return false;
    end if;
    perform outbox.note_audit($6, 'settle_conflict', jsonb_build_object('handler', $1, 'topic', $2, 'key', $3,
        'version', $4, 'applied_id', applied_id_, 'other_id', $5), $7);
    return true;
end $$;

-- The events of a key that this home published and a relay has delivered: versions after `after` until `until`, in order, at
-- most `events_max` and about 8 MB of them. Walks the key's events back from its head: the cost is that of what was published
-- since. What another home published, or retention has dropped, is not in it.
create function outbox.log_of(topic text, key text, after bigint, until bigint, events_max integer)
    returns table (id uuid, created_at timestamptz, version bigint, kind text, origin text, payload bytea, headers jsonb)
language plpgsql stable security definer set search_path = pg_catalog, pg_temp as $$
#variable_conflict use_column
begin
    return query
    with recursive back (position, created_at, previous, version, bytes) as (
        select e.position, e.created_at, e.previous, e.version, octet_length(e.payload)
        from outbox.event e
        where e.position = coalesce(
            (select h.position from outbox.head h where h.topic = $1 and h.key = $2),
            (select a.position from outbox.archived_head a where a.topic = $1 and a.key = $2))
        union all
        select e.position, e.created_at, e.previous, e.version, octet_length(e.payload)
        from back b join outbox.event e on e.position = b.previous
        where b.version > $3 + 1
    ),
    wanted as (
        select b.position, b.created_at, sum(b.bytes) over (order by b.version) - b.bytes as before
        from back b
        where b.version > $3 and b.version <= $4
          and not exists (select from outbox.pending p
                          where p.bucket = outbox.bucket($2) and p.position = b.position)
        order by b.version limit $5
    )
    select e.id, e.created_at, e.version, e.kind, e.origin, e.payload, e.headers
    from wanted w join outbox.event e on e.position = w.position and e.created_at = w.created_at
    where w.before < 8000000
    order by e.version;
end $$;

-- Lets a login role ask the log for events that an inbox misses.
create function outbox.grant_refill(role name) returns void
language plpgsql set search_path = pg_catalog, pg_temp as $$
begin
    execute format('grant usage on schema outbox to %I', $1);
    execute format('grant execute on function outbox.log_of(text, text, bigint, bigint, integer) to %I', $1);
end $$;

revoke execute on function outbox.lift(uuid, bytea, jsonb), outbox.letter_subject(outbox.dead_letter),
    outbox.letters_in_order(uuid[]), outbox.replay_dead_letters(uuid[], text, text),
    outbox.edit_dead_letter(uuid, bytea, text, text), outbox.discard_dead_letters(uuid[], text, text),
    outbox.discard_unreadable(text, text, integer, bigint, text, text),
    outbox.settle_conflict(text, text, text, bigint, uuid, text, text),
    outbox.log_of(text, text, bigint, bigint, integer), outbox.grant_refill(name) from public;
insert into outbox.operator_function (signature) values
    ('outbox.replay_dead_letters(uuid[], text, text)'), ('outbox.edit_dead_letter(uuid, bytea, text, text)'),
    ('outbox.discard_dead_letters(uuid[], text, text)'),
    ('outbox.discard_unreadable(text, text, integer, bigint, text, text)'),
    ('outbox.settle_conflict(text, text, text, bigint, uuid, text, text)');
