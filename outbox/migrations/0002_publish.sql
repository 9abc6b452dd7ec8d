-- The contract for any language: publish, lock and follow, in the caller's transaction.

-- The caller's origin, if it may write the streams of a topic.
create function outbox.check_topic(topic text) returns text
language plpgsql stable security definer set search_path = pg_catalog, pg_temp as $$
declare
    origin_ text;
begin
    select o.origin into origin_ from outbox.origin o where o.role = session_user and $1 = any (o.topics);
    if origin_ is null then
        raise insufficient_privilege using
            message = format('role %s may not publish to %s', session_user, $1),
            hint = 'select outbox.grant_module(role, origin, topics)';
    end if;
    return origin_;
end $$;

-- Takes a key's head out of the archive, for a caller that has just inserted one and so holds its lock; nulls when it is not
-- there. Asked after the insert: one that waited for the archiver would not have seen it before.
create function outbox.thaw_head(topic text, key text) returns outbox.archived_head
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare
    at_ outbox.archived_head;
begin
    if current_setting('transaction_isolation') <> 'read committed' then
        -- A snapshot may be older than the archiving, but the primary key is not: it says 40001 then.
        insert into outbox.archived_head (topic, key, version) values ($1, $2, 0) on conflict do nothing;
    end if;
    delete from outbox.archived_head a where a.topic = $1 and a.key = $2 returning a.* into at_;
    return case when at_.version > 0 then at_ end;
end $$;

-- Refuses what a broker, or a reader, could not take: 23514, and the constraint's name says the limit. A record stays below
-- what a broker takes by default (1 MiB with headers). In a pattern a bound of repeats, `{1,200}`, costs 30 times a length
-- beside it.
create function outbox.check_key(key text) returns void
language plpgsql immutable as $$
begin
    if $1 is null or octet_length($1) not between 1 and 255 then
        raise check_violation using constraint = 'key_of_1_to_255_bytes',
            message = format('the key has %s bytes; 1 to 255 are allowed', coalesce(octet_length($1), 0));
    end if;
end $$;

create function outbox.check_event(key text, kind text, payload bytea, headers jsonb) returns void
language plpgsql immutable as $$
begin
    if $1 is null or octet_length($1) not between 1 and 255 then
        perform outbox.check_key($1);
    elsif $2 is null or $2 !~ '^[A-Za-z0-9._-]+$' or octet_length($2) > 200 then
        raise check_violation using constraint = 'kind_of_1_to_200_letters_digits_dot_underscore_dash',
            message = 'the kind must have 1 to 200 characters of A-Z a-z 0-9 . _ -';
    elsif $3 is null then
        raise check_violation using constraint = 'payload_of_at_most_900_000_bytes',
            message = 'the payload is missing; an empty one is allowed';
    elsif octet_length($3) > 900000 then
        raise check_violation using constraint = 'payload_of_at_most_900_000_bytes',
            message = format('the payload has %s bytes; 900000 are allowed', octet_length($3));
    elsif $4 = '{}' then
        null;
    elsif octet_length($4::text) > 32768 then
        raise check_violation using constraint = 'headers_of_at_most_32_768_bytes',
            message = format('the headers have %s bytes as JSON; 32768 are allowed', octet_length($4::text));
    elsif jsonb_typeof($4) <> 'object' or jsonb_path_exists($4, '$.* ? (@.type() != "string")') then
        raise check_violation using constraint = 'headers_an_object_of_texts',
            message = 'the headers must be an object of texts';
    end if;
end $$;

-- Publishes one event and returns its version: 1, 2, 3 ... per (topic, key).
-- Errors: 42501 for a role that was not granted as a module, or not for this topic; 23514 for a bad key, kind, size or headers
-- (an object of texts).
create function outbox.publish(topic text, key text, kind text, payload bytea, headers jsonb default '{}') returns bigint
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare
    origin_ text;
    at_ timestamptz;
    id_ uuid;
    bucket_ smallint;
    version_ bigint;
    position_ bigint;
    previous_ bigint;
    archived outbox.archived_head;
begin
    -- As outbox.check_topic, which says what is wrong; a call of it would set and reset the search path once more.
    select o.origin into origin_ from outbox.origin o where o.role = session_user and $1 = any (o.topics);
    if origin_ is null then
        perform outbox.check_topic($1);
    end if;
    perform outbox.check_event($2, $3, $4, coalesce($5, '{}'));
    bucket_ := outbox.bucket($2);
    id_ := outbox.uuid_v7(clock_timestamp());
    -- 1. The head. The position is drawn under the row lock: an update that had to wait for it is computed anew. A first insert
    --    that loses the race for a new key ends in an update too.
    update outbox.head h
    set version = h.version + 1, last_id = id_, previous = h.position, position = nextval('outbox.position')
    where h.topic = $1 and h.key = $2
    returning h.version, h.position, h.previous into version_, position_, previous_;
    if not found then
        insert into outbox.head as h (topic, key, version, last_id, position)
        values ($1, $2, 1, id_, nextval('outbox.position'))
        on conflict on constraint head_pkey do update
        set version = h.version + 1, last_id = excluded.last_id, previous = h.position, position = nextval('outbox.position')
        returning h.version, h.position, h.previous into version_, position_, previous_;
        if version_ = 1 then
            archived := outbox.thaw_head($1, $2);
            if archived.version is not null then
                -- It goes on where it ended. Drawn again: the first may have been drawn before the archived one.
                update outbox.head h
                set version = archived.version + 1, previous = archived.position, position = nextval('outbox.position')
                where h.topic = $1 and h.key = $2
                returning h.version, h.position, h.previous into version_, position_, previous_;
            end if;
        end if;
    end if;
    -- 2. The event, with a time drawn under the lock.
    at_ := clock_timestamp();
    insert into outbox.event (position, created_at, id, bucket, topic, key, version, kind, origin, payload, headers, previous)
    values (position_, at_, id_, bucket_, $1, $2, version_, $3, origin_, $4, coalesce($5, '{}'), previous_);
    -- 3. The queue.
    insert into outbox.pending (bucket, position, created_at, previous) values (bucket_, position_, at_, previous_);
    return version_;
end $$;

-- Publishes many events in one call and returns their versions in the order given. Heads are locked in (topic, key) order, byte
-- by byte, so that two such calls can't wait for each other; events of one key keep the order given.
-- Errors: those of outbox.publish, with a hint that numbers the event from 1; 2202E for lists of different lengths.
create function outbox.publish_all(topics text[], keys text[], kinds text[], payloads bytea[], headers jsonb[])
    returns bigint[]
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare
    versions bigint[] := array_fill(null::bigint, array[cardinality($1)]);
    each record;
    constraint_ text;
    table_ text;
begin
    if (cardinality($2), cardinality($3), cardinality($4), cardinality($5))
        is distinct from (cardinality($1), cardinality($1), cardinality($1), cardinality($1)) then
        raise array_subscript_error using message = 'outbox.publish_all: the lists differ in length';
    end if;
    for each in
        select e.topic, e.key, e.kind, e.payload, e.headers, e.n
        from unnest($1, $2, $3, $4, $5) with ordinality as e (topic, key, kind, payload, headers, n)
        order by e.topic collate "C", e.key collate "C", e.n
    loop
        versions[each.n::integer] := outbox.publish(each.topic, each.key, each.kind, each.payload, each.headers);
    end loop;
    return versions;
exception when check_violation or not_null_violation then
    get stacked diagnostics constraint_ = constraint_name, table_ = table_name;
    raise exception using errcode = sqlstate, message = sqlerrm, constraint = constraint_, table = table_,
        hint = format('event %s of %s', each.n, cardinality($1));
end $$;

-- For tests: what the caller's open transaction has published so far, in the order of the calls, savepoints that were not
-- rolled back included; of the last 100,000 positions drawn. A module can read the log nowhere else.
create function outbox.published() returns table (topic text, key text, version bigint, kind text, origin text,
                                                  payload bytea, headers jsonb)
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare
    -- A savepoint writes under an id of its own, above the transaction's; the row holds its low 32 bits.
    own bigint := pg_current_xact_id_if_assigned()::text::bigint;
    ids constant bigint := 4294967296;
begin
    return query
    select e.topic, e.key, e.version, e.kind, e.origin, e.payload, e.headers
    from (
        select l.*, own + ((l.xmin::text::bigint - own) % ids + ids) % ids as writer
        from outbox.event l
        where l.position > (select last_value from outbox.position) - 100000
    ) e
    -- Seen and yet in progress: written by this transaction.
    where case when e.writer < own + ids / 2 then pg_xact_status(e.writer::text::xid8) = 'in progress' end
    order by e.position;
end $$;

-- Locks the head of a key until the transaction ends and returns its version; 0 for a key without events.
create function outbox.lock(topic text, key text) returns bigint
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare
    version_ bigint;
    archived outbox.archived_head;
begin
    perform outbox.check_topic($1);
    perform outbox.check_key($2);
    -- A head that is there is locked by this and not changed; `do nothing` would leave it to whoever archives it meanwhile.
    insert into outbox.head as h (topic, key, version) values ($1, $2, 0)
    on conflict on constraint head_pkey do update set version = h.version where false;
    if found then
        archived := outbox.thaw_head($1, $2);
        update outbox.head h set version = archived.version, last_id = archived.last_id, position = archived.position
        where h.topic = $1 and h.key = $2 and archived.version is not null;
    end if;
    select h.version into version_ from outbox.head h where h.topic = $1 and h.key = $2 for update;
    return version_;
end $$;

-- Makes the head follow a foreign event, for replicas. A head only rises. False when it is there already under another id, or
-- beyond: then this home wrote that version itself.
create function outbox.follow(topic text, key text, version bigint, id uuid) returns boolean
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare
    fresh boolean;
    archived outbox.archived_head;
begin
    perform outbox.check_topic($1);
    perform outbox.check_key($2);
    if $3 < 1 then
        raise check_violation using constraint = 'version_of_at_least_1',
            message = format('version %s; they are counted from 1', $3);
    end if;
    -- A row that was inserted, and not updated, has no xmax.
    insert into outbox.head as h (topic, key, version, last_id) values ($1, $2, $3, $4)
    on conflict on constraint head_pkey do update set version = excluded.version, last_id = excluded.last_id
    where h.version < excluded.version
    returning h.xmax = 0 into fresh;
    if fresh then
        archived := outbox.thaw_head($1, $2);
        update outbox.head h
        set version = greatest(archived.version, $3), position = archived.position,
            last_id = case when archived.version < $3 then $4 else archived.last_id end
        where h.topic = $1 and h.key = $2 and archived.version is not null;
        if coalesce(archived.version, 0) < $3 then
            return true;
        end if;
    elsif fresh is not null then
        return true;
    end if;
    return exists (select from outbox.head h where h.topic = $1 and h.key = $2 and h.version = $3 and h.last_id = $4);
end $$;

-- The head's version, without a lock; 0 for a key without events.
create function outbox.head_version(topic text, key text) returns bigint
language sql stable security definer set search_path = pg_catalog, pg_temp as $$
    select coalesce((select h.version from outbox.head h where h.topic = $1 and h.key = $2),
                    (select a.version from outbox.archived_head a where a.topic = $1 and a.key = $2), 0)
$$;
