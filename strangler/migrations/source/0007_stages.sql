-- All eight stages: approvals, evidence with its beginning, and evidence of other gates than parity.

-- Who is for a step that can't be taken back. Lines are only added; the last one of a person counts.
create table strangler.approval (
    id uuid primary key default gen_random_uuid(),
    migration text not null references strangler.migration (name),
    stage text not null check (stage in ('sealed', 'removed')),
    by text not null check (octet_length(by) between 1 and 200),
    at timestamptz not null default clock_timestamp(),
    reason text not null check (octet_length(reason) between 1 and 500)
);
create index approval_last on strangler.approval (migration, stage, at desc);

alter table strangler.evidence drop constraint evidence_gate_check;
alter table strangler.evidence add constraint evidence_gate_check check (gate ~ '^[a-z_]{1,60}$');
-- When what was looked at began to be looked at: what changed after that may have been missed. Null: at `at`.
alter table strangler.evidence add column began_at timestamptz;

-- The moment since which a stage has been undisturbed: it was entered, rolled back or held then.
create function strangler.unbroken_since(migration text) returns timestamptz
language plpgsql stable set search_path = pg_catalog, pg_temp as $$
begin
    return (
        select max(h.at) from strangler.history h
        where h.migration = $1
          and (h.action in ('define', 'rollback', 'hold') or h.from_stage is distinct from h.to_stage)
    );
end $$;

-- The moment since which approvals count: the stage was entered, or left for a moment, then.
create function strangler.approvals_since(migration text) returns timestamptz
language plpgsql stable set search_path = pg_catalog, pg_temp as $$
begin
    return (
        select max(h.at) from strangler.history h
        where h.migration = $1 and (h.action in ('define', 'rollback') or h.from_stage is distinct from h.to_stage)
    );
end $$;

-- What the approvals and the gates of this file need, for a role that runs a controller.
create function strangler.grant_stages(role name) returns void
language plpgsql set search_path = pg_catalog, pg_temp as $$
begin
    execute format('grant select, insert on strangler.approval to %I', $1);
    execute format('grant execute on function strangler.unbroken_since(text), strangler.approvals_since(text) to %I', $1);
end $$;

revoke execute on function strangler.unbroken_since(text), strangler.approvals_since(text), strangler.grant_stages(name)
    from public;
