-- Who did what, when, why and through which home; and answers that are kept for 7 days.

alter table payments.intent
    add column actor text not null default 'engine' check (octet_length(actor) between 1 and 255),
    add column reason text check (char_length(reason) between 1 and 255);

-- Append only. An action is told by the home that did it, in the transaction that did it. No foreign key: what is told stays when
-- what it tells of is gone.
create table payments.audit (
    id bigint generated always as identity primary key,
    at timestamptz not null default clock_timestamp(),
    tenant text,                -- null for what belongs to no payment of ours
    payment_id uuid,
    command_id uuid,
    actor text not null check (octet_length(actor) between 1 and 255),
    action text not null check (octet_length(action) between 1 and 255),
    reason text check (char_length(reason) between 1 and 255),
    home text not null check (home in ('source', 'target')),
    detail jsonb not null default '{}',
    check ((tenant is null) = (payment_id is null))
);
create index audit_by_payment on payments.audit (payment_id, id);

create function payments.refuse_audit_change() returns trigger
language plpgsql set search_path = pg_catalog, pg_temp as $$
begin
    raise exception 'the audit can only grow' using errcode = 'restrict_violation';
end $$;
create trigger append_only before update or delete on payments.audit
    for each row execute function payments.refuse_audit_change();
create trigger not_emptied before truncate on payments.audit
    for each statement execute function payments.refuse_audit_change();
-- Also for a session that calls itself a replica, in which other triggers don't fire.
alter table payments.audit enable always trigger append_only;
alter table payments.audit enable always trigger not_emptied;

-- The time is not indexed together with whether there is an answer: storing one would then be a change of an index too.
create index idempotency_by_age on payments.idempotency (created_at);
alter table payments.idempotency set (fillfactor = 80);

-- What a home needs beside `payments.grant_home`. Neither a line's number nor its time is the writer's to choose.
create function payments.grant_audit(role name) returns void
language plpgsql set search_path = pg_catalog, pg_temp as $$
begin
    execute format('grant select on payments.audit to %I', $1);
    execute format('grant insert (tenant, payment_id, command_id, actor, action, reason, home, detail)
                    on payments.audit to %I', $1);
    execute format('grant delete on payments.idempotency to %I', $1);
end $$;
revoke execute on function payments.grant_audit(name) from public;
