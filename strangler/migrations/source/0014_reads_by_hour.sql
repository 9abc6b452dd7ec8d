-- Counts of reads by the hour, so that a gate goes by the last hours only. What was counted before has no hour: it is of long ago, and
-- only what speaks against the target still counts of it.
alter table strangler.read_comparison add column hour timestamptz not null default timestamptz 'epoch';
alter table strangler.read_comparison alter column hour drop default;
alter table strangler.read_comparison drop constraint read_comparison_pkey;
alter table strangler.read_comparison
    add constraint read_comparison_pkey primary key (migration, since, version, class, hour);
create index read_comparison_hour on strangler.read_comparison (migration, hour);

-- Adds what a program has counted since its last call to the counts of this hour. No gate looks back for more than a week, but at what
-- speaks against the target as long as the stage lasts: what no gate looks at is deleted, a bounded number at a time. Of samples
-- the first 100 of a class are kept, until a stage has been left for a week.
create or replace function strangler.note_reads(
    migration text, since bigint, version text, classes text[], counts bigint[],
    sample_classes text[], keys text[], sources text[], targets text[]
) returns void
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
#variable_conflict use_column
begin
    -- In one order, so that two programs never wait for each other in a circle.
    insert into strangler.read_comparison as c (migration, since, version, class, count, hour)
    select $1, $2, $3, n.class, n.count, date_bin('1 hour', statement_timestamp(), timestamptz 'epoch')
    from unnest($4, $5) n (class, count) order by n.class
    on conflict on constraint read_comparison_pkey do update
    set count = c.count + excluded.count, noted_at = excluded.noted_at;
    with old as (
        select o.since, o.version, o.class, o.hour from strangler.read_comparison o
        where o.migration = $1 and o.hour < statement_timestamp() - interval '8 days'
          and (o.since < $2 or o.class not in ('money', 'structure', 'mutant_missed'))
        order by o.hour limit 1000
        for update skip locked
    )
    delete from strangler.read_comparison c using old
    where c.migration = $1 and c.since = old.since and c.version = old.version and c.class = old.class
      and c.hour = old.hour;
    if cardinality($6) = 0 then
        return;
    end if;
    insert into strangler.read_sample (migration, since, class, key, source, target)
    select $1, $2, s.class, s.key, s.source, s.target
    from (
        select n.*, row_number() over (partition by n.class) as place
        from unnest($6, $7, $8, $9) n (class, key, source, target)
    ) s
    where s.place + (
        select count(*) from strangler.read_sample r where r.migration = $1 and r.since = $2 and r.class = s.class
    ) <= 100;
    delete from strangler.read_sample r
    where r.migration = $1 and r.since < $2 and r.at < clock_timestamp() - interval '7 days';
end $$;
