-- As before, and what was given up leaves a trace: a snapshot passes over the dead letters of its key, and one of them may be the
-- only record of a write that two homes made. A letter whose own event moved the cursor was applied after all; that is no loss.
create or replace function outbox.unpark(handler text, topic text, key text) returns integer
language plpgsql security definer
set search_path = pg_catalog, pg_temp set enable_seqscan = off set jit = off as $$
declare
    gone integer;
    dead integer := 0;
    at_ bigint;
    letter_ outbox.dead_letter;
begin
    perform outbox.check_handler($1);
    delete from outbox.parked p using outbox.cursor c
    where c.handler = p.handler and c.topic = p.topic and c.key = p.key and p.version <= c.version
      and p.handler = $1 and p.topic = $2 and p.key = $3;
    get diagnostics gone = row_count;
    select c.version into at_ from outbox.cursor c where c.handler = $1 and c.topic = $2 and c.key = $3;
    for letter_ in
        delete from outbox.dead_letter d
        where d.version <= at_ and d.handler = $1 and d.topic = $2 and d.key = $3
        returning d.*
    loop
        dead := dead + 1;
        if letter_.version < at_ then
            insert into outbox.audit_original (audit, payload, headers)
            values (outbox.note_audit('inbox', 'pass_over_dead_letter', outbox.letter_subject(letter_),
                                      format('the key went on from a snapshot at version %s', at_)),
                    letter_.payload, letter_.headers);
        end if;
    end loop;
    gone := gone + dead;
    update outbox.cursor c set waiting = c.waiting - gone
    where gone > 0 and c.handler = $1 and c.topic = $2 and c.key = $3;
    return gone;
end $$;
