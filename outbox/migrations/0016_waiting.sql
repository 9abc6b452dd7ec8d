-- What waits of a key, for whoever wants to hand the key on: nothing of it may be left behind.

-- Of these keys, what waits in this database, once for each reason and handler; a key of which nothing waits is not in the answer.
--   awaiting     a replica can't go on without a snapshot     dead         an event was given up
--   parked       an event waits for an earlier one, or was refused
--   missing      events are known by their version only       quarantined  the broker never took one, published here
create function outbox.waiting(topic text, keys text[]) returns table (key text, what text, handler text)
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
    where w.holds
    union all
    select e.key, 'quarantined', null
    from outbox.pending p
    cross join lateral (
        select l.topic, l.key from outbox.event l where l.position = p.position and l.created_at = p.created_at limit 1
    ) e
    where p.quarantined_at is not null and e.topic = $1 and e.key = any ($2);
end $$;
revoke execute on function outbox.waiting(text, text[]) from public;

-- As before, and this one: a home with a replica is one that keys may leave.
create or replace function outbox.grant_replica(role name) returns void
language plpgsql set search_path = pg_catalog, pg_temp as $$
begin
    execute format('grant execute on function outbox.follow(text, text, bigint, uuid),
        outbox.jump(text, text, text, bigint, uuid), outbox.await_snapshot(text, text, text),
        outbox.skipped(text, text, text, bigint), outbox.remember(text, text, text, bigint, uuid),
        outbox.applied_as(text, text, text, bigint, uuid), outbox.forget_applied(text, interval, integer),
        outbox.waiting(text, text[]) to %I', $1);
end $$;

-- As before, but for kinds that outbox.never_skipped names: what they say may only be said by whoever published it.
create or replace function outbox.edit_dead_letter(letter uuid, payload bytea, actor text, reason text) returns boolean
language plpgsql security definer
set search_path = pg_catalog, pg_temp set enable_seqscan = off set jit = off as $$
declare
    letter_ outbox.dead_letter;
begin
    if octet_length($2) > 900000 then
        raise check_violation using message = format('the payload has %s bytes; 900000 are allowed', octet_length($2));
    end if;
    select d.* into letter_ from outbox.dead_letter d where d.id = $1;
    if exists (select from outbox.never_skipped n where n.kind = letter_.kind) then
        raise object_not_in_prerequisite_state using
            message = format('events of kind %s can''t be edited', letter_.kind),
            hint = 'mend what refuses it, then outbox.replay_dead_letters';
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
