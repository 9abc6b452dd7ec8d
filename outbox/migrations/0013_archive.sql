-- The archive: heads and cursors of keys whose stream has ended. And the end of a handler.

-- Archives those of the keys that are at rest here: the last event is older than `quiet` and delivered, every cursor has reached
-- the head, nothing waits. Others, and those that somebody works on, are passed over: it waits for nobody. At most 1,000 keys.
-- Returns how many. What happens to an archived key later is in its events' hands: it comes back by itself.
create function outbox.archive_keys(topic text, keys text[], quiet interval, actor text, reason text) returns integer
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare
    now_ timestamptz := clock_timestamp();
    cursors_ outbox.cursor[];
    heads_ outbox.head[];
    rest text[];
begin
    if cardinality($2) > 1000 then
        raise program_limit_exceeded using message = format('%s keys; at most 1000 are archived at once', cardinality($2));
    end if;
    -- Cursors before heads, by key, as everywhere.
    cursors_ := array(
        select its.c
        from (select distinct k as key, r.name from unnest($2) k cross join outbox.handler r order by k, r.name) asked
        cross join lateral (
            select c from outbox.cursor c where c.handler = asked.name and c.topic = $1 and c.key = asked.key
            limit 1 for update skip locked
        ) its);
    heads_ := array(
        select its.h
        from (select distinct k as key from unnest($2) k order by k) asked
        cross join lateral (
            select h from outbox.head h where h.topic = $1 and h.key = asked.key limit 1 for update skip locked
        ) its);
    select coalesce(array_agg(asked.key), '{}') into rest
    from (select distinct k as key from unnest($2) k) asked
    left join unnest(heads_) h on h.key = asked.key
    cross join lateral (
        select count(*) as n,
               bool_and(c.version >= 1 and c.waiting = 0 and not c.awaiting_snapshot
                        and c.version = coalesce(h.version, c.version)
                        and coalesce(c.applied_at, '-infinity') <= now_ - $3) as quiet
        from unnest(cursors_) c where c.key = asked.key
    ) mine
    where (h.key is not null or mine.n > 0 and not exists (select from outbox.head b where b.topic = $1 and b.key = asked.key))
      and mine.n = (
          select count(*) from outbox.handler r
          cross join lateral (
              select from outbox.cursor c where c.handler = r.name and c.topic = $1 and c.key = asked.key limit 1
          ) there)
      and mine.quiet is not false
      and h.version is distinct from 0
      and (select p.position from outbox.pending p where p.bucket = outbox.bucket(asked.key) and p.position = h.position) is null
      and (select e.position from outbox.event e where e.position = h.position and e.created_at > now_ - $3 limit 1) is null
      and (
          select count(*) from outbox.handler r
          cross join lateral (
              select from outbox.overflow o where o.handler = r.name and o.topic = $1 and o.key = asked.key limit 1
          ) there) = 0;
    with moved as (
        delete from outbox.cursor c using (
            select there.place from unnest(cursors_) m
            cross join lateral (
                select l.ctid as place from outbox.cursor l
                where l.handler = m.handler and l.topic = m.topic and l.key = m.key limit 1
            ) there
            where m.key = any (rest)
        ) locked
        where c.ctid = locked.place returning c.*
    )
    insert into outbox.archived_cursor (handler, topic, key, version, last_id, applied_at)
    select m.handler, m.topic, m.key, m.version, m.last_id, m.applied_at from moved m;
    with moved as (
        delete from outbox.head h using (
            select there.place from unnest(heads_) m
            cross join lateral (
                select l.ctid as place from outbox.head l where l.topic = m.topic and l.key = m.key limit 1
            ) there
            where m.key = any (rest)
        ) locked
        where h.ctid = locked.place returning h.*
    )
    insert into outbox.archived_head (topic, key, version, last_id, position)
    select m.topic, m.key, m.version, m.last_id, m.position from moved m;
    if cardinality(rest) > 0 then
        perform outbox.note_audit($4, 'archive', jsonb_build_object('topic', $1, 'keys', cardinality(rest)), $5);
    end if;
    return cardinality(rest);
end $$;

-- Archives keys whose last event, published here, is of one of the kinds. Looks at the next `events_max` (1 to 1,000) events of the
-- log after position `after` that are older than `quiet`, and returns the last position it looked at, null when there is none:
-- go on from there.
create function outbox.archive_ended(topic text, kinds text[], quiet interval, after bigint, events_max integer,
                                     actor text, reason text, out looked bigint, out archived integer)
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare
    ended text[];
begin
    with page as (
        select e.position, e.created_at, e.topic, e.key, e.version, e.kind from outbox.event e
        where e.position > $4 order by e.position limit least($5, 1000)
    ), old as (
        -- Up to the first that is too young.
        select p.* from page p
        where p.position < (select coalesce(min(y.position), 9223372036854775807) from page y
                            where y.created_at > clock_timestamp() - $3)
    )
    select max(o.position), coalesce(array_agg(distinct o.key) filter (where o.topic = $1 and o.kind = any ($2) and exists (
               select from outbox.head h where h.topic = o.topic and h.key = o.key and h.version = o.version)), '{}')
    into looked, ended from old o;
    archived := outbox.archive_keys($1, ended, $3, $6, $7);
end $$;

revoke execute on function outbox.archive_keys(text, text[], interval, text, text),
    outbox.archive_ended(text, text[], interval, bigint, integer, text, text) from public;
insert into outbox.operator_function (signature) values
    ('outbox.archive_keys(text, text[], interval, text, text)'),
    ('outbox.archive_ended(text, text[], interval, bigint, integer, text, text)');

-- Ends a handler that no program has any more, such as one that was given another name: what waits for it is dropped, its cursors
-- and where it began are forgotten, and nothing is kept for it from then on. Its name stays its role's; a program that starts it
-- again begins anew. Refused (22023) while a group is noted to read with it, unless `forced`: then make sure that none does.
-- One transaction. Returns how many keys it had met.
create function outbox.retire_handler(handler text, forced boolean, actor text, reason text) returns bigint
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare
    groups_ text;
    parked_ bigint;
    dead_ bigint;
    incomplete_ bigint;
    keys_ bigint;
begin
    -- A start that notes its group as a reader needs this row, and waits; so does whoever opens a key.
    perform from outbox.handler h where h.name = $1 for update;
    if not found then
        raise invalid_parameter_value using message = format('there is no handler %s', $1);
    end if;
    select string_agg(r.consumer_group, ', ' order by r.consumer_group) into groups_ from (
        select distinct r.consumer_group from outbox.reader r where r.handler = $1 and r.missed_from is null
    ) r;
    if groups_ is not null and $2 is not true then
        raise invalid_parameter_value using
            message = format('handler %s is noted to read in group %s: start that without it first, or force it when the group is gone',
                             $1, groups_);
    end if;
    -- Cursors first, as everywhere.
    delete from outbox.cursor c where c.handler = $1;
    get diagnostics keys_ = row_count;
    delete from outbox.parked p where p.handler = $1;
    get diagnostics parked_ = row_count;
    delete from outbox.dead_letter d where d.handler = $1;
    get diagnostics dead_ = row_count;
    delete from outbox.overflow o where o.handler = $1;
    get diagnostics incomplete_ = row_count;
    delete from outbox.archived_cursor a where a.handler = $1;
    delete from outbox.applied_id a where a.handler = $1;
    delete from outbox.reader r where r.handler = $1;
    delete from outbox.baseline b where b.handler = $1;
    update outbox.replay r set ended_at = clock_timestamp(), cancelled = true where r.handler = $1 and r.ended_at is null;
    perform outbox.note_audit($3, 'retire_handler', jsonb_build_object('handler', $1, 'forced', $2 is true, 'keys', keys_,
        'parked', parked_, 'dead', dead_, 'incomplete', incomplete_), $4);
    return keys_;
end $$;

revoke execute on function outbox.retire_handler(text, boolean, text, text) from public;
insert into outbox.operator_function (signature) values ('outbox.retire_handler(text, boolean, text, text)');
