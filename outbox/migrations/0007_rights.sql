-- Rights. A module's role may execute the contract's functions and nothing else here; a relay's role works on the queue.
revoke execute on all functions in schema outbox from public;

-- Lets a login role publish as `origin` to `topics`, and run handlers.
create function outbox.grant_module(role name, origin text, topics text[]) returns void
language plpgsql set search_path = pg_catalog, pg_temp as $$
begin
    if exists (select from unnest($3) t
               where t is null or t !~ '^[a-z0-9._-]+$' or octet_length(t) > 200 or t in ('.', '..')) then
        raise check_violation using message = 'a topic must have 1 to 200 characters of a-z 0-9 . _ -, and not be . or ..';
    end if;
    insert into outbox.origin (role, origin, topics) values ($1, $2, $3)
    on conflict on constraint origin_pkey do update set origin = excluded.origin, topics = excluded.topics;
    execute format('grant usage on schema outbox to %I', $1);
    execute format('grant execute on function
        outbox.publish(text, text, text, bytea, jsonb),
        outbox.publish_all(text[], text[], text[], bytea[], jsonb[]), outbox.published(),
        outbox.lock(text, text), outbox.head_version(text, text),
        outbox.register(text), outbox.admit(text, text, text, bigint, uuid),
        outbox.park(text, text, text, bigint, uuid, bytea, jsonb, text, text, integer, integer),
        outbox.bury(text, text, text, bigint, uuid, bytea, jsonb, text, integer),
        outbox.gaps(text, interval, integer), outbox.note_gap(text, text, text, text, interval, bigint),
        outbox.forget_gaps(text), outbox.incomplete(text),
        outbox.note_conflict(text, text, text, bigint, uuid, uuid),
        outbox.is_replaced(text, text, text, bigint, bytea, jsonb),
        outbox.begun_at(text, text), outbox.unmet(text, text, text[]), outbox.begin_at(text, text, text, text, bigint[]), outbox.own_origins(),
        outbox.admit_runs(text, text, text[], bigint[], bigint[], uuid[], bigint[]),
        outbox.compare(text, text, text, interval, integer),
        outbox.next_parked(text, text, text), outbox.unpark(text, text, text),
        outbox.retry_later(text, text, text, bigint, text, text, interval), outbox.due(text, integer),
        outbox.keep_unreadable(text, text, integer, bigint, text, bytea, bytea, jsonb),
        outbox.subscribed(text, text[]), outbox.subscribe(text, text, integer),
        outbox.readers(text, text), outbox.read_with(text, text, text[], bigint[]),
        outbox.left_out(text, text, text[], bigint[]) to %I', $1);
end $$;

-- Lets a module's role run replicas too: they move heads and cursors by foreign events.
create function outbox.grant_replica(role name) returns void
language plpgsql set search_path = pg_catalog, pg_temp as $$
begin
    execute format('grant execute on function outbox.follow(text, text, bigint, uuid),
        outbox.jump(text, text, text, bigint, uuid), outbox.await_snapshot(text, text, text),
        outbox.skipped(text, text, text, bigint), outbox.remember(text, text, text, bigint, uuid),
        outbox.applied_as(text, text, text, bigint, uuid), outbox.forget_applied(text, interval, integer) to %I', $1);
end $$;

-- Lets a login role run a relay.
create function outbox.grant_relay(role name) returns void
language plpgsql set search_path = pg_catalog, pg_temp as $$
begin
    execute format('grant usage on schema outbox to %I', $1);
    execute format('grant select, insert on outbox.sent to %I', $1);
    execute format('grant select on outbox.event, outbox.head, outbox.archived_head, outbox.cursor, outbox.archived_cursor,
        outbox.parked, outbox.dead_letter, outbox.overflow,
        outbox.unreadable, outbox.conflict, outbox.handler, outbox.lease, outbox.relay to %I', $1);
    execute format('grant select, update, delete on outbox.pending to %I', $1);
    execute format('grant select on outbox.origin to %I', $1);
    execute format('grant select on sequence outbox.position to %I', $1);
    execute format('grant execute on function outbox.lease(uuid, text, interval), outbox.release(uuid),
        outbox.make_partitions(integer) to %I', $1);
end $$;

revoke execute on function outbox.grant_module(name, text, text[]), outbox.grant_replica(name), outbox.grant_relay(name)
    from public;
