-- A producer in plain SQL: the row and its event in one transaction.
--
--   psql "$DATABASE_URL" -X -q -v ON_ERROR_STOP=1 -v id=n-1 -v text='hello' -f note.sql
--
-- The role was granted once, by the database's owner: select outbox.grant_module('notes', 'shop.notes', '{notes.v1}');
begin;
insert into note (id, text) values (:'id', :'text') on conflict (id) do update set text = excluded.text;
select outbox.publish(
    'notes.v1',                                 -- topic
    :'id',                                      -- key: events of one key arrive in the order of their commits
    'test.noted.v1',                            -- kind
    convert_to(json_build_object('key', :'id', 'text', :'text')::text, 'UTF8'),
    '{"tenant": "acme", "content-type": "application/json"}'
) as version \gset
commit;
\echo :id is at version :version
