-- A function in language sql with settings of its own is planned anew at each call, one in plpgsql once a session. This one is
-- asked for each event that this database published itself.

-- The head's version, without a lock; 0 for a key without events.
create or replace function outbox.head_version(topic text, key text) returns bigint
language plpgsql stable security definer
set search_path = pg_catalog, pg_temp set enable_seqscan = off set jit = off as $$
begin
    return coalesce((select h.version from outbox.head h where h.topic = $1 and h.key = $2),
                    (select a.version from outbox.archived_head a where a.topic = $1 and a.key = $2), 0);
end $$;
