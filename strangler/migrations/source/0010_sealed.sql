-- Stage `sealed`: the source's roles lose their rights to the domain's tables, no key can come back, and what still touches
-- those tables is noted.

-- Which roles of the source write the domain's tables, and in which schema these are. Said by the source's `migrate`.
create table strangler.sealable (
    migration text not null references strangler.migration (name),
    role name not null,
    schema_name name not null,
    primary key (migration, role, schema_name)
);

-- What sealing revoked, so that it can be given back by hand.
create table strangler.sealed_right (
    migration text not null references strangler.migration (name),
    role name not null,
    object text not null,                      -- in quotes where needed, with its schema
    column_name text not null,                 -- empty: of all columns
    privilege text not null,
    at timestamptz not null default clock_timestamp(),
    primary key (migration, role, object, column_name, privilege)
);

-- How often each table was touched, and each statement that names one was called, when it was last looked at. The row with the empty
-- name says since when there are looks of that kind.
create table strangler.touch (
    migration text not null references strangler.migration (name),
    kind text not null check (kind in ('table', 'statement')),
    name text not null,                        -- the table, or PostgreSQL's number of the statement
    by text not null,                          -- the statement's role; empty for a table
    shown text not null check (octet_length(shown) <= 1000),
    count bigint not null,
    first_at timestamptz not null default clock_timestamp(),
    changed_at timestamptz,                    -- when another count was last found; null: never
    constraint touch_pkey primary key (migration, kind, name, by)
);
create index touch_last on strangler.touch (migration, changed_at desc) where changed_at is not null;

-- The rights to write that a role was granted in a schema, for tables and for single columns.
create function strangler.write_rights(role name, schema_name name)
returns table (object text, column_name text, privilege text)
language plpgsql stable set search_path = pg_catalog, pg_temp as $$
#variable_conflict use_column
begin
    return query
    select format('%I.%I', n.nspname, c.relname), '', a.privilege_type
    from pg_class c
    join pg_namespace n on n.oid = c.relnamespace
    cross join lateral aclexplode(c.relacl) a
    join pg_roles r on r.oid = a.grantee
    where n.nspname = $2 and r.rolname = $1 and c.relkind in ('r', 'p', 'v', 'f')
      and a.privilege_type in ('INSERT', 'UPDATE', 'DELETE', 'TRUNCATE')
    union all
    select format('%I.%I', n.nspname, c.relname), t.attname::text, a.privilege_type
    from pg_class c
    join pg_namespace n on n.oid = c.relnamespace
    join pg_attribute t on t.attrelid = c.oid and t.attnum > 0 and not t.attisdropped
    cross join lateral aclexplode(t.attacl) a
    join pg_roles r on r.oid = a.grantee
    where n.nspname = $2 and r.rolname = $1 and c.relkind in ('r', 'p', 'v', 'f')
      and a.privilege_type in ('INSERT', 'UPDATE');
end $$;

-- Takes from the registered roles what they may write, and notes it. One that may write by other means, as an owner, a superuser
-- or a member, can't be sealed. Returns how many rights were revoked.
create function strangler.revoke_writes(migration text) returns bigint
language plpgsql set search_path = pg_catalog, pg_temp as $$
declare
    sealed record;
    held record;
    revoked bigint := 0;
begin
    for sealed in
        select s.role, s.schema_name from strangler.sealable s where s.migration = $1 order by s.role, s.schema_name
    loop
        for held in select w.* from strangler.write_rights(sealed.role, sealed.schema_name) w loop
            insert into strangler.sealed_right (migration, role, object, column_name, privilege)
            values ($1, sealed.role, held.object, held.column_name, held.privilege)
            on conflict do nothing;
            if held.column_name = '' then
                execute format('revoke %s on %s from %I', held.privilege, held.object, sealed.role);
            else
                execute format('revoke %s (%I) on %s from %I', held.privilege, held.column_name, held.object, sealed.role);
            end if;
            revoked := revoked + 1;
        end loop;
    end loop;
    select s.role, format('%I.%I', n.nspname, c.relname) as object into held
    from strangler.sealable s
    join pg_roles r on r.rolname = s.role
    join pg_namespace n on n.nspname = s.schema_name
    join pg_class c on c.relnamespace = n.oid and c.relkind in ('r', 'p')
    where s.migration = $1
      and (has_table_privilege(r.oid, c.oid, 'insert, update, delete, truncate')
           or has_any_column_privilege(r.oid, c.oid, 'insert, update'))
    order by s.role, c.relname limit 1;
    if found then
        raise object_not_in_prerequisite_state using
            message = format('role %s may still write %s, by ownership, membership or another''s grant', held.role, held.object),
            hint = 'let the source use a role of its own that owns no table and is in no other role, then advance again';
    end if;
    return revoked;
end $$;

-- Registers a role that writes the domain's tables at the source. In a migration that is sealed already it loses at once what it was
-- given since, so that the source's `migrate` may be repeated.
create function strangler.register_sealable(migration text, role name, schema_name name) returns void
language plpgsql set search_path = pg_catalog, pg_temp as $$
begin
    insert into strangler.sealable (migration, role, schema_name) values ($1, $2, $3) on conflict do nothing;
    if exists (select from strangler.migration m where m.name = $1 and m.stage in ('sealed', 'removed')) then
        perform strangler.revoke_writes($1);
    end if;
end $$;

-- Whether the source's copy is retired.
create function strangler.is_sealed(migration text) returns boolean
language plpgsql stable security definer set search_path = pg_catalog, pg_temp as $$
begin
    return exists (select from strangler.migration m where m.name = $1 and m.stage in ('sealed', 'removed'));
end $$;

-- Seals the source, in the transaction that changes the stage and has locked the policy. Returns how many rights were revoked.
create function strangler.seal(migration text) returns bigint
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare
    policy strangler.migration;
    elsewhere text;
    revoked bigint;
begin
    select m.* into policy from strangler.migration m where m.name = $1 for update;
    if policy.stage is distinct from 'primary' or policy.draining then
        raise object_not_in_prerequisite_state using
            message = format('migration %s is not in stage primary', $1), hint = 'enter it first, and wait until all keys are there';
    end if;
    -- Who is changing an owner row ends first; who comes later sees the new stage. Locks of single rows go on.
    lock table strangler.owner in share mode;
    select k.key into elsewhere from (
        (select o.key from strangler.owner o where o.migration = $1 and o.owner = 'source' limit 1)
        union all
        (select o.key from strangler.owner o where o.migration = $1 and o.owner = 'target' and o.phase = 'recalling' limit 1)
    ) k limit 1;
    if found then
        raise object_not_in_prerequisite_state using
            message = format('key %s is not settled at the target', elsewhere),
            hint = '`banyan pinned` says what keeps a key; advance again when none is left';
    end if;
    if not exists (select from strangler.sealable s where s.migration = $1) then
        raise object_not_in_prerequisite_state using
            message = format('no role of migration %s is registered whose rights would end', $1),
            hint = 'register it with strangler::sealable in the source''s `migrate`, then advance again';
    end if;
    revoked := strangler.revoke_writes($1);
    return revoked;
end $$;

-- From then on no owner row names the source or leaves the target, whoever tries.
create function strangler.keep_sealed() returns trigger
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
begin
    if exists (select from strangler.migration m where m.name = new.migration and m.stage in ('sealed', 'removed')) then
        raise object_not_in_prerequisite_state using
            message = format('migration %s is sealed: key %s stays the target''s', new.migration, new.key);
    end if;
    return new;
end $$;
create trigger owner_sealed before insert or update on strangler.owner
    for each row when (new.owner = 'source' or new.phase <> 'settled') execute function strangler.keep_sealed();

-- What anyone but the owners of the tables may still do in the domain's schemas at the source.
create function strangler.grants_left(migration text) returns table (role text, privilege text, object text)
language plpgsql stable set search_path = pg_catalog, pg_temp as $$
#variable_conflict use_column
begin
    return query
    with schemas as (
        select n.oid, n.nspname, n.nspacl, n.nspowner from pg_namespace n
        where n.nspname in (select s.schema_name from strangler.sealable s where s.migration = $1)
    ), granted as (
        select a.grantee, s.nspowner as owner, a.privilege_type, format('schema %I', s.nspname) as object
        from schemas s cross join lateral aclexplode(s.nspacl) a
        union all
        select a.grantee, c.relowner, a.privilege_type, format('%I.%I', s.nspname, c.relname)
        from schemas s join pg_class c on c.relnamespace = s.oid cross join lateral aclexplode(c.relacl) a
        union all
        select a.grantee, c.relowner, a.privilege_type, format('%I.%I (%I)', s.nspname, c.relname, t.attname)
        from schemas s join pg_class c on c.relnamespace = s.oid
        join pg_attribute t on t.attrelid = c.oid and t.attnum > 0 and not t.attisdropped
        cross join lateral aclexplode(t.attacl) a
    )
    select coalesce(r.rolname::text, 'public'), g.privilege_type, g.object
    from granted g left join pg_roles r on r.oid = g.grantee
    where g.grantee <> g.owner
    order by 1, 3, 2;
end $$;

-- Notes the statements that name a table of these schemas, but for those of superusers and of whoever migrates. `schemas` is a
-- regular expression. Returns what keeps it from seeing them; null: nothing.
create function strangler.note_statements(migration text, schemas text) returns text
language plpgsql set search_path = pg_catalog, pg_temp as $$
declare
    place name;
    watched boolean := exists (
        select from strangler.touch t where t.migration = $1 and t.kind = 'statement' and t.name = ''
    );
begin
    select n.nspname into place from pg_extension e join pg_namespace n on n.oid = e.extnamespace
    where e.extname = 'pg_stat_statements';
    if not found then
        return 'extension pg_stat_statements is not in this database';
    end if;
    if not pg_has_role(current_user, 'pg_read_all_stats', 'usage') then
        return format('role %s may not read others'' statements: grant it pg_read_all_stats', current_user);
    end if;
    -- A statement that is new to the list was called since the last look. The bookkeeping of migrations is no touch.
    execute format($statement$
        insert into strangler.touch as t (migration, kind, name, by, shown, count, changed_at)
        select $1, 'statement', coalesce(p.queryid, 0)::text, r.rolname,
               left(regexp_replace(min(p.query), '\s+', ' ', 'g'), 160), sum(p.calls)::bigint,
               case when $3 then clock_timestamp() end
        from %I.pg_stat_statements p
        join pg_roles r on r.oid = p.userid and not r.rolsuper and r.rolname <> current_user
        join pg_database d on d.oid = p.dbid and d.datname = current_database()
        where regexp_replace(p.query, '"?(' || $2 || ')"?\."?_migrations', '', 'gi')
              ~* ('(^|[^a-z0-9_$."])"?(' || $2 || ')"?\s*\.\s*"?[a-z_]')
        group by coalesce(p.queryid, 0), r.rolname
        order by sum(p.calls) desc limit 1000
        on conflict on constraint touch_pkey do update set count = excluded.count, changed_at = clock_timestamp()
        where t.count <> excluded.count
    $statement$, place) using $1, $2, watched;
    insert into strangler.touch (migration, kind, name, by, shown, count) values ($1, 'statement', '', '', '', 0)
    on conflict do nothing;
    return null;
exception when object_not_in_prerequisite_state then
    return 'pg_stat_statements is not in shared_preload_libraries';
end $$;

-- Compares the counters of PostgreSQL with those of the last look, and notes both. A counter that fell was reset: nobody knows what it
-- would have shown, so that is a touch, too. Returns what could not be looked at; null: nothing.
create function strangler.note_touches(migration text) returns text
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare
    watched boolean := exists (
        select from strangler.touch t where t.migration = $1 and t.kind = 'table' and t.name = ''
    );
    schemas text := (
        select string_agg(regexp_replace(s.schema_name::text, '([^a-zA-Z0-9_])', '\\\1', 'g'), '|')
        from (select distinct x.schema_name from strangler.sealable x where x.migration = $1) s
    );
begin
    -- One at a time: two looks at once would find each other's notes changed.
    perform pg_advisory_xact_lock(hashtext('strangler.touch'), hashtext($1));
    if schemas is null then
        return format('no schema of migration %s is registered', $1);
    end if;
    insert into strangler.touch as t (migration, kind, name, by, shown, count, changed_at)
    select $1, 'table', format('%I.%I', u.schemaname, u.relname), '', format('%I.%I', u.schemaname, u.relname),
           coalesce(u.seq_scan, 0) + coalesce(u.idx_scan, 0) + u.n_tup_ins + u.n_tup_upd + u.n_tup_del,
           case when watched then clock_timestamp() end
    from pg_stat_user_tables u
    where u.relname <> '_migrations'
      and u.schemaname in (select s.schema_name from strangler.sealable s where s.migration = $1)
    on conflict on constraint touch_pkey do update set count = excluded.count, changed_at = clock_timestamp()
    where t.count <> excluded.count;
    insert into strangler.touch (migration, kind, name, by, shown, count) values ($1, 'table', '', '', '', 0)
    on conflict do nothing;
    return strangler.note_statements($1, schemas);
end $$;

-- Lets a login role ask whether its home is sealed: whoever writes keys at the source.
create function strangler.grant_seal(role name) returns void
language plpgsql set search_path = pg_catalog, pg_temp as $$
begin
    execute format('grant usage on schema strangler to %I', $1);
    execute format('grant execute on function strangler.is_sealed(text) to %I', $1);
end $$;

-- Lets a login role seal, and look for touches: a controller.
create function strangler.grant_sealer(role name) returns void
language plpgsql set search_path = pg_catalog, pg_temp as $$
begin
    execute format('grant select on strangler.sealable, strangler.sealed_right, strangler.touch to %I', $1);
    execute format('grant execute on function strangler.seal(text), strangler.is_sealed(text), strangler.grants_left(text),
        strangler.note_touches(text) to %I', $1);
end $$;

revoke execute on function strangler.write_rights(name, name), strangler.revoke_writes(text),
    strangler.register_sealable(text, name, name), strangler.is_sealed(text), strangler.seal(text),
    strangler.keep_sealed(), strangler.grants_left(text), strangler.note_statements(text, text),
    strangler.note_touches(text), strangler.grant_seal(name), strangler.grant_sealer(name) from public;
