-- A repair is a line of history, and no change of the policy: the line names the revision in force, which may have several.
alter table strangler.history drop constraint history_pkey;
alter table strangler.history add column id bigint generated always as identity primary key;
create unique index history_change on strangler.history (migration, revision) where action <> 'repair';
create index history_at on strangler.history (migration, revision, id);
