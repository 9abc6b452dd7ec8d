-- The inbox: what each handler has applied. What waits in front of it is in 0005_parked.sql, the gate in 0006_gate.sql.

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

-- The handlers that a group reads a topic with: its position is theirs. One that a later start of the group came without misses
-- what is read from then on, and is given it when it is back.
create table outbox.reader (
    consumer_group text not null,
    topic text not null,
    handler text not null references outbox.handler (name),
    missed_from bigint[],           -- by partition, from 0 on; null, or beyond them, where it misses nothing. Null while it reads
    constraint reader_pkey primary key (consumer_group, topic, handler)
);

-- Where a handler began in a topic, the first time. It stays as it was said then.
--   earliest  at the beginning of the topic       log  there too; what the topic no longer has comes from the home's log
--   now       at the end: a key without a cursor begins with whichever event of it is met first, for good
create table outbox.baseline (
    handler text not null references outbox.handler (name),
    topic text not null,
    kind text not null check (kind in ('earliest', 'log', 'now')),
    because text check (kind <> 'now' or because ~ '\S'),    -- why what came before may be left out
    offsets bigint[] not null default '{}',     -- `now`: where that was in each partition, from 0 on; later ones begin at 0
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
-- Few at most times, and counted every few seconds.
create index cursor_awaiting on outbox.cursor (handler) where awaiting_snapshot;

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
    settled_at timestamptz,         -- an operator has looked into it; the row stays, or a redelivery would bring it back
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

-- The offsets at which a handler has begun in a topic, and since when; no row before its first start.
create function outbox.begun_at(handler text, topic text) returns table (offsets bigint[], since timestamptz)
language sql stable security definer set search_path = pg_catalog, pg_temp as $$
    select b.offsets, b.set_at from outbox.baseline b where b.handler = $1 and b.topic = $2
$$;

-- Notes where a handler begins in a topic. What was said first stays.
create function outbox.begin_at(handler text, topic text, kind text, because text, offsets bigint[]) returns void
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
begin
    perform outbox.check_handler($1);
    insert into outbox.baseline (handler, topic, kind, because, offsets) values ($1, $2, $3, $4, $5)
    on conflict do nothing;
end $$;

-- Keeps a record that no gate can take. Repeats change nothing.
create function outbox.keep_unreadable(consumer_group text, topic text, partition integer, record_offset bigint,
                                       error text, key bytea, payload bytea, headers jsonb) returns void
language sql security definer set search_path = pg_catalog, pg_temp as $$
    insert into outbox.unreadable (consumer_group, topic, partition, record_offset, error, key, payload, headers)
    values ($1, $2, $3, $4, $5, $6, $7, $8) on conflict do nothing
$$;

-- The partitions of these topics that a group has started to read.
create function outbox.subscribed(consumer_group text, topics text[]) returns table (topic text, partition integer)
language sql stable security definer set search_path = pg_catalog, pg_temp as $$
    select s.topic, s.partition from outbox.subscription s where s.consumer_group = $1 and s.topic = any ($2)
$$;

-- Notes that a group has started to read a partition.
create function outbox.subscribe(consumer_group text, topic text, partition integer) returns void
language sql security definer set search_path = pg_catalog, pg_temp as $$
    insert into outbox.subscription (consumer_group, topic, partition) values ($1, $2, $3) on conflict do nothing
$$;

-- The handlers that a group has read a topic with, and what each has missed since.
create function outbox.readers(consumer_group text, topic text) returns table (handler text, missed_from bigint[])
language sql stable security definer set search_path = pg_catalog, pg_temp as $$
    select r.handler, r.missed_from from outbox.reader r where r.consumer_group = $1 and r.topic = $2
$$;

-- Notes that a member of a group reads a topic with these handlers: others that the group had miss what comes from `positions` on,
-- the offsets at which it reads, by partition; null where it does not. What one misses already stays as it was.
create function outbox.left_out(consumer_group text, topic text, handlers text[], positions bigint[]) returns void
language sql security definer set search_path = pg_catalog, pg_temp as $$
    update outbox.reader r
    set missed_from = array(select coalesce(had.missed, had.begins)
                            from unnest(r.missed_from, $4) with ordinality had (missed, begins, n) order by had.n)
    where r.consumer_group = $1 and r.topic = $2 and r.handler <> all ($3)
$$;

-- Notes that a group reads a topic with these handlers from now on, and which are left out.
create function outbox.read_with(consumer_group text, topic text, handlers text[], positions bigint[]) returns void
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
begin
    perform outbox.check_handler(h) from unnest($3) h;
    insert into outbox.reader (consumer_group, topic, handler) select $1, $2, h from unnest($3) h order by h
    on conflict on constraint reader_pkey do update set missed_from = null;
    perform outbox.left_out($1, $2, $3, $4);
end $$;

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
        left join lateral (
            select c.* from outbox.cursor c where c.handler = $1 and c.topic = $2 and c.key = page.key limit 1
        ) c on true
        left join lateral (
            select a.* from outbox.archived_cursor a where a.handler = $1 and a.topic = $2 and a.key = page.key limit 1
        ) a on true
        left join lateral (
            select e.created_at from outbox.event e where e.position = page.position limit 1
        ) e on true
        where page.version > coalesce(c.version, a.version, 0) and page.position is not null
          and coalesce(c.waiting, 0) = 0 and c.awaiting_snapshot is not true
          and (c.key is not null or a.key is not null or outbox.begun($1, $2) is distinct from 'now')
          and (e.created_at is null or e.created_at < clock_timestamp() - $4)
          and (select q.position from outbox.pending q
               where q.bucket = outbox.bucket(page.key) and q.position = page.position) is null
          and (select o.key from outbox.overflow o where o.handler = $1 and o.topic = $2 and o.key = page.key) is null
    )
    select ends.page_end, lost.key, lost.version, lost.applied
    from (select max(page.key) from page) as ends (page_end) left join lost on true;
end $$;
