-- Plans. What these functions ask by a key are look-ups by index, and connections keep a plan for as long as they live: one that
-- was made while a table was empty would read the whole of it, at each call, when it has grown. So a table with an index that
-- serves is not read from end to end. Where none does, as in outbox.published, the plan costs so much on paper that it would be
-- compiled at each call; so it is not. What looks up a list of keys does it one by one, `lateral (.. limit 1)` or a scalar
-- subquery, and not by a join or `not exists`, which a planner may turn around.
do $$
declare
    each regprocedure;
begin
    for each in
        select p.oid::regprocedure from pg_proc p
        join pg_language l on l.oid = p.prolang and l.lanname = 'plpgsql'
        where p.pronamespace = 'outbox'::regnamespace and p.prosecdef and p.prokind = 'f'
    loop
        execute format('alter function %s set enable_seqscan = off set jit = off', each);
    end loop;
end $$;
