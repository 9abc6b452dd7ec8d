-- Reads: what a program has to know of the policy to send and compare them, and what it found. The gates `reads` and `stale_reads`
-- are passed by these counts.

-- Counts since a stage was entered. A class is one of a comparison (`equal`, `money` ..) or of a read by a copy (`copy`, `lag` ..).
create table strangler.read_comparison (
    migration text not null references strangler.migration (name),
    since bigint not null,                     -- the revision with which the stage was entered
    version text not null check (octet_length(version) between 1 and 100),  -- of the program that compared
    class text not null check (class ~ '^[a-z_]{1,40}$'),
    count bigint not null check (count > 0),
    noted_at timestamptz not null default clock_timestamp(),
    primary key (migration, since, version, class)
);

-- The first differences of each class, as texts.
create table strangler.read_sample (
    id bigint generated always as identity primary key,
    migration text not null references strangler.migration (name),
    since bigint not null,
    class text not null check (class ~ '^[a-z_]{1,40}$'),
    key text not null check (octet_length(key) between 1 and 255),
    source text not null check (octet_length(source) <= 1024),
    target text not null check (octet_length(target) <= 1024),
    at timestamptz not null default clock_timestamp()
);
create index read_sample_class on strangler.read_sample (migration, since, class);

-- The policy as far as reads need it, and the revision with which its stage was entered.
create function strangler.read_policy(migration text)
returns table (stage text, percent smallint, tenants text[], salt text, since bigint)
language plpgsql stable security definer set search_path = pg_catalog, pg_temp as $$
#variable_conflict use_column
begin
    return query
    select m.stage, m.percent, m.tenants, m.salt, coalesce((
        select max(h.revision) from strangler.history h
        where h.migration = $1 and h.to_stage = m.stage and h.from_stage is distinct from h.to_stage
    ), m.revision)
    from strangler.migration m where m.name = $1;
end $$;

-- Adds what a program has counted since its last call. Of samples the first 100 of a class are kept, until a stage has been left for
-- a week.
create function strangler.note_reads(
    migration text, since bigint, version text, classes text[], counts bigint[],
    sample_classes text[], keys text[], sources text[], targets text[]
) returns void
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
#variable_conflict use_column
begin
    -- In one order, so that two programs never wait for each other in a circle.
    insert into strangler.read_comparison as c (migration, since, version, class, count)
    select $1, $2, $3, n.class, n.count from unnest($4, $5) n (class, count) order by n.class
    on conflict on constraint read_comparison_pkey do update
    set count = c.count + excluded.count, noted_at = excluded.noted_at;
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

-- Lets a login role send reads by the policy and note what they found: the module that answers reads at the source.
create function strangler.grant_observer(role name) returns void
language plpgsql set search_path = pg_catalog, pg_temp as $$
begin
    execute format('grant usage on schema strangler to %I', $1);
    execute format('grant execute on function strangler.read_policy(text), strangler.note_reads(text, bigint, text, text[],
        bigint[], text[], text[], text[], text[]) to %I', $1);
end $$;

-- Lets a controller see what reads found. Beside strangler.grant_controller, which later migrations make anew.
create function strangler.grant_reads_found(role name) returns void
language plpgsql set search_path = pg_catalog, pg_temp as $$
begin
    execute format('grant select on strangler.read_comparison, strangler.read_sample to %I', $1);
    execute format('grant execute on function strangler.read_policy(text) to %I', $1);
end $$;

revoke execute on function strangler.read_policy(text),
    strangler.note_reads(text, bigint, text, text[], bigint[], text[], text[], text[], text[]),
    strangler.grant_observer(name), strangler.grant_reads_found(name) from public;
