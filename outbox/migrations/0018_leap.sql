-- What a replica asks for each event of another home, in one question where there were four, or two.

-- As outbox.jump, and what waits of the key in front of this handler then:
--   passed     the cursor is there or beyond; nothing moved     replaced   an operator put something else in this event's place
--   waits      something that was passed over, or comes next    free       nothing
create function outbox.leap(handler text, topic text, key text, version bigint, id uuid, payload bytea, headers jsonb)
    returns text
language plpgsql security definer
set search_path = pg_catalog, pg_temp set enable_seqscan = off set jit = off as $$
begin
    if not outbox.jump($1, $2, $3, $4, $5) then
        return 'passed';
    end if;
    -- The jump has locked the cursor, which counts what is kept of its key.
    if (select c.waiting from outbox.cursor c where c.handler = $1 and c.topic = $2 and c.key = $3) = 0 then
        return 'free';
    end if;
    return case when outbox.is_replaced($1, $2, $3, $4, $6, $7) then 'replaced' else 'waits' end;
end $$;

-- After a foreign event was applied: the head follows it, as by outbox.follow, and its id is remembered. False, and nothing is
-- remembered, when this home wrote that version itself. The opening event may be this home's own, by another module, and the head
-- beyond it.
create function outbox.follow_applied(handler text, topic text, key text, version bigint, id uuid) returns boolean
language plpgsql security definer
set search_path = pg_catalog, pg_temp set enable_seqscan = off set jit = off as $$
begin
    if not outbox.follow($2, $3, $4, $5) and $4 > 1 then
        return false;
    end if;
    perform outbox.remember($1, $2, $3, $4, $5);
    return true;
end $$;

revoke execute on function outbox.leap(text, text, text, bigint, uuid, bytea, jsonb),
    outbox.follow_applied(text, text, text, bigint, uuid) from public;

-- As before, and these two. Programs of before them ask the others.
create or replace function outbox.grant_replica(role name) returns void
language plpgsql set search_path = pg_catalog, pg_temp as $$
begin
    execute format('grant execute on function outbox.follow(text, text, bigint, uuid),
        outbox.jump(text, text, text, bigint, uuid), outbox.await_snapshot(text, text, text),
        outbox.skipped(text, text, text, bigint), outbox.remember(text, text, text, bigint, uuid),
        outbox.applied_as(text, text, text, bigint, uuid), outbox.forget_applied(text, interval, integer),
        outbox.waiting(text, text[]), outbox.leap(text, text, text, bigint, uuid, bytea, jsonb),
        outbox.follow_applied(text, text, text, bigint, uuid) to %I', $1);
end $$;
