-- The two questions of 0018 for snapshots of many keys, in one transaction.

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

-- As before, and these two.
create or replace function outbox.grant_replica(role name) returns void
language plpgsql set search_path = pg_catalog, pg_temp as $$
begin
    execute format('grant execute on function outbox.follow(text, text, bigint, uuid),
        outbox.jump(text, text, text, bigint, uuid), outbox.await_snapshot(text, text, text),
        outbox.skipped(text, text, text, bigint), outbox.remember(text, text, text, bigint, uuid),
        outbox.applied_as(text, text, text, bigint, uuid), outbox.forget_applied(text, interval, integer),
        outbox.waiting(text, text[]), outbox.leap(text, text, text, bigint, uuid, bytea, jsonb),
        outbox.follow_applied(text, text, text, bigint, uuid), outbox.leap_all(text, text, text[], bigint[], uuid[]),
        outbox.follow_all_applied(text, text, text[], bigint[], uuid[]) to %I', $1);
end $$;
