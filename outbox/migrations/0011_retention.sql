-- Retention: what still needs a day of the log, and who may drop days.

-- Keys whose next versions a handler of this database lacks while later ones of them wait: they have to come from a log.
create function outbox.gaps() returns table (handler text, topic text, key text, applied bigint, known bigint)
language sql stable security definer set search_path = pg_catalog, pg_temp as $$
    select w.handler, w.topic, w.key, coalesce(c.version, 0), max(w.version)
    from (
        select p.handler, p.topic, p.key, p.version, 1 as stored from outbox.parked p
        union all select d.handler, d.topic, d.key, d.version, 1 from outbox.dead_letter d
        union all select o.handler, o.topic, o.key, o.version, 0 from outbox.overflow o
    ) w
    left join outbox.cursor c on c.handler = w.handler and c.topic = w.topic and c.key = w.key
    where w.version > coalesce(c.version, 0)
    group by w.handler, w.topic, w.key, c.version
    having max(w.version) - coalesce(c.version, 0) > sum(w.stored)
$$;

-- Why a day of a log may not be dropped, or null when nothing here needs it:
--   pending   an event of that day is not delivered yet, or is quarantined
--   waiting   an event of that day is parked or dead in front of a handler of this database
--   gap       a handler of this database lacks an event of that day, and later ones of its key wait
--   replay    an unfinished replay has yet to read that day
-- The log `sent` is needed by nothing.
create function outbox.needed(log text, day date) returns text
language plpgsql stable security definer set search_path = pg_catalog, pg_temp as $$
declare
    from_ timestamptz := $2::timestamp at time zone 'UTC';
    until_ timestamptz := ($2 + 1)::timestamp at time zone 'UTC';
begin
    if $1 <> 'event' then
        return null;
    end if;
    if exists (select from outbox.pending p where p.created_at >= from_ and p.created_at < until_) then
        return 'pending';
    end if;
    if exists (
        select from (
            select p.headers from outbox.parked p
            union all select d.headers from outbox.dead_letter d
        ) w
        where w.headers ->> 'banyan-origin' in (select o.origin from outbox.origin o)
          and (w.headers ->> 'ce_time')::timestamptz >= from_ and (w.headers ->> 'ce_time')::timestamptz < until_) then
        return 'waiting';
    end if;
    -- Gaps are rare and short, so the day is read from end to end, and only while there is one.
    if exists (select from outbox.gaps()) and exists (
        select from outbox.gaps() g
        join outbox.event e on e.topic = g.topic and e.key = g.key and e.version > g.applied and e.version <= g.known
        where e.created_at >= from_ and e.created_at < until_) then
        return 'gap';
    end if;
    if exists (
        select from outbox.replay r
        where r.ended_at is null and r.touched_at > clock_timestamp() - interval '1 day'
          and coalesce(r.since, '-infinity') < until_ and coalesce(r.until, 'infinity') > from_) then
        return 'replay';
    end if;
    return null;
exception when invalid_datetime_format or datetime_field_overflow then
    -- Somebody has edited the time of an event that waits: it may be of any day.
    return 'waiting';
end $$;

-- Makes a login role the owner of the logs, so that it can drop days: `detach concurrently` runs in no function, so no function
-- can lend its right. An owner can also put a trigger on its table, and that runs as whoever owns outbox.publish: keep this
-- role apart from modules and relays, and trust it like the role that migrates. That one must be a superuser or its member.
-- 55P03 when an open transaction is in the way for 2 s: call it again, nothing has changed.
create function outbox.grant_housekeeper(role name) returns void
language plpgsql set search_path = pg_catalog, pg_temp as $$
declare
    part regclass;
    -- Whoever runs this may be another, such as a superuser: it is the functions' owner that goes on publishing.
    publisher name := (select pg_get_userbyid(p.proowner) from pg_proc p
                       where p.oid = 'outbox.publish(text,text,text,bytea,jsonb)'::regprocedure);
begin
    -- A change of owner waits for open publishers, and all others behind it.
    perform set_config('lock_timeout', '2s', true);
    execute format('grant usage on schema outbox to %I', $1);
    execute format('grant execute on function outbox.needed(text, date), outbox.make_partition(text, date),
        outbox.make_partitions(integer) to %I', $1);
    for part in
        select c.oid from pg_class c
        where c.relnamespace = 'outbox'::regnamespace and c.relkind in ('r', 'p') and c.relname ~ '^(event|sent)(_\d{8})?$'
          and pg_get_userbyid(c.relowner) <> $1
    loop
        perform outbox.give(part, $1);
    end loop;
    execute format('grant select, insert, update, delete on outbox.event, outbox.sent to %I', publisher);
end $$;

revoke execute on function outbox.gaps(), outbox.needed(text, date), outbox.grant_housekeeper(name) from public;
