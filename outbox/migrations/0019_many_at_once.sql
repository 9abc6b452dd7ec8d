-- What is asked of many keys at once, at a fraction of the cost of asking of each: a replica, of the snapshots that come when a domain is
-- copied or changes its home; a hand-over, of a batch. No index was missing: each key was looked up by one, in a call of its own, and each
-- call of a function puts its settings in force and takes them back, which takes longer than the look-up.

-- The gate for snapshots of many keys of one topic, one of each: as outbox.leap, where that would say `free`. Returns which of them
-- (from 1) moved their cursors; the others are left as they are, for outbox.leap: passed already, or something of the key waits. The
-- cursors are locked in the order of their keys until the transaction ends.
create function outbox.leap_all(handler text, topic text, keys text[], versions bigint[], ids uuid[]) returns setof integer
language plpgsql security definer
set search_path = pg_catalog, pg_temp set enable_seqscan = off set jit = off as $$
begin
    perform outbox.check_handler($1);
    perform from (select k from unnest($3) k order by k) asked (key)
    cross join lateral (
        select from outbox.cursor c where c.handler = $1 and c.topic = $2 and c.key = asked.key limit 1 for update
    ) locked;
    return query
    with snapshot as (
        select s.*, was.place
        from unnest($3, $4, $5) with ordinality as s (key, version, id, n)
        left join lateral (
            select c.ctid as place from outbox.cursor c where c.handler = $1 and c.topic = $2 and c.key = s.key limit 1
        ) was on true
    ), moved as (
        update outbox.cursor c
        set version = snapshot.version, last_id = snapshot.id, applied_at = clock_timestamp(), awaiting_snapshot = false
        from snapshot
        where c.ctid = snapshot.place and c.version < snapshot.version and c.waiting = 0
        returning snapshot.n
    ), opened as (
        insert into outbox.cursor as c (handler, topic, key, version, last_id, applied_at)
        select $1, $2, snapshot.key, snapshot.version, snapshot.id, clock_timestamp()
        from snapshot where snapshot.place is null order by snapshot.key
        on conflict do nothing
        returning c.key
    )
    select snapshot.n::integer from snapshot
    where snapshot.n in (select moved.n from moved) or snapshot.key in (select opened.key from opened);
end $$;

-- After snapshots of many keys were applied: outbox.follow_applied for each, in the order of their keys. Returns the keys of which it
-- says that this home wrote that version itself.
create function outbox.follow_all_applied(handler text, topic text, keys text[], versions bigint[], ids uuid[]) returns setof text
language plpgsql security definer
set search_path = pg_catalog, pg_temp set enable_seqscan = off set jit = off as $$
declare
    one record;
begin
    for one in select s.key, s.version, s.id from unnest($3, $4, $5) as s (key, version, id) order by s.key loop
        if not outbox.follow_applied($1, $2, one.key, one.version, one.id) then
            return next one.key;
        end if;
    end loop;
end $$;

revoke execute on function outbox.leap_all(text, text, text[], bigint[], uuid[]),
    outbox.follow_all_applied(text, text, text[], bigint[], uuid[]) from public;

-- The versions of these heads, in the order given, without a lock; 0 for a key without events.
create function outbox.head_versions(topic text, keys text[]) returns bigint[]
language plpgsql stable security definer
set search_path = pg_catalog, pg_temp set enable_seqscan = off set jit = off as $$
begin
    return array(
        select coalesce(
            (select h.version from outbox.head h where h.topic = $1 and h.key = a.key),
            (select r.version from outbox.archived_head r where r.topic = $1 and r.key = a.key), 0)
        from unnest($2) with ordinality a (key, n) order by a.n);
end $$;
revoke execute on function outbox.head_versions(text, text[]) from public;

-- As before. Most keys have nothing that waits, so what may wait is looked at only where the cursor or the overflow says that something
-- does: four rows made and dropped for each key and handler took half of the time.
create or replace function outbox.waiting(topic text, keys text[]) returns table (key text, what text, handler text)
language plpgsql stable security definer
set search_path = pg_catalog, pg_temp set enable_seqscan = off set jit = off as $$
#variable_conflict use_column
begin
    perform outbox.check_topic($1);
    return query
    select a.key, w.what, h.name
    from unnest($2) a (key)
    cross join outbox.handler h
    left join lateral (
        select c.version, c.waiting, c.awaiting_snapshot from outbox.cursor c
        where c.handler = h.name and c.topic = $1 and c.key = a.key limit 1
    ) c on true
    left join lateral (
        select o.version from outbox.overflow o
        where o.handler = h.name and o.topic = $1 and o.key = a.key limit 1
    ) o on true
    cross join lateral (values
        ('awaiting', c.awaiting_snapshot),
        ('dead', c.waiting > 0 and (select d.version from outbox.dead_letter d
            where d.handler = h.name and d.topic = $1 and d.key = a.key limit 1) is not null),
        ('parked', c.waiting > 0 and (select p.version from outbox.parked p
            where p.handler = h.name and p.topic = $1 and p.key = a.key limit 1) is not null),
        -- One that the cursor has passed is not missed, though its row may still be there.
        ('missing', o.version > coalesce(c.version, 0))
    ) w (what, holds)
    where (c.awaiting_snapshot or c.waiting > 0 or o.version is not null) and w.holds
    union all
    select e.key, 'quarantined', null
    from outbox.pending p
    cross join lateral (
        select l.topic, l.key from outbox.event l where l.position = p.position and l.created_at = p.created_at limit 1
    ) e
    where p.quarantined_at is not null and e.topic = $1 and e.key = any ($2);
end $$;

-- As before, and these.
create or replace function outbox.grant_replica(role name) returns void
language plpgsql set search_path = pg_catalog, pg_temp as $$
begin
    execute format('grant execute on function outbox.follow(text, text, bigint, uuid),
        outbox.jump(text, text, text, bigint, uuid), outbox.await_snapshot(text, text, text),
        outbox.skipped(text, text, text, bigint), outbox.remember(text, text, text, bigint, uuid),
        outbox.applied_as(text, text, text, bigint, uuid), outbox.forget_applied(text, interval, integer),
        outbox.waiting(text, text[]), outbox.leap(text, text, text, bigint, uuid, bytea, jsonb),
        outbox.follow_applied(text, text, text, bigint, uuid), outbox.leap_all(text, text, text[], bigint[], uuid[]),
        outbox.follow_all_applied(text, text, text[], bigint[], uuid[]), outbox.head_versions(text, text[]) to %I', $1);
end $$;
