-- Payments as one home sees them: those it owns and replicas of the others'.
create schema if not exists payments;

create table payments.payment (
    id uuid primary key,
    tenant text not null check (octet_length(tenant) between 1 and 255),
    order_id uuid not null,
    amount_minor bigint not null check (amount_minor > 0),
    currency text not null check (currency ~ '^[A-Z]{3}$'),
    capture_method text not null check (capture_method in ('automatic', 'manual')),
    payment_method text not null,
    status text not null check (status in ('requested', 'authorized', 'captured', 'declined', 'voided', 'refunded')),
    authorized_minor bigint not null default 0 check (authorized_minor between 0 and amount_minor),
    captured_minor bigint not null default 0 check (captured_minor between 0 and authorized_minor),
    refunded_minor bigint not null default 0 check (refunded_minor between 0 and captured_minor),
    provider_ref text,
    version bigint not null check (version >= 1),   -- of the stream that this row is the result of
    requested_at timestamptz not null,
    updated_at timestamptz not null default clock_timestamp(),
    look_at timestamptz not null default clock_timestamp(),   -- an engine looks at a requested payment again from here on
    looks integer not null default 0                          -- how often one looked; spaces the looks out
) with (fillfactor = 80);
create index payment_by_tenant on payments.payment (tenant, id desc);
create index payment_due on payments.payment (look_at) where status = 'requested';

-- What is asked of the provider, committed before it is asked. `unknown`: asked, and no definite answer came yet.
create table payments.intent (
    command_id uuid primary key,
    payment_id uuid not null references payments.payment (id),
    tenant text not null,
    operation text not null check (operation in ('charge', 'authorize', 'capture', 'void', 'refund')),
    amount_minor bigint not null check (amount_minor > 0),
    idempotency_key text,       -- the caller's; null for an engine's own commands
    fingerprint text,
    attempt integer not null default 1,
    provider_object text,       -- the provider's payment intent, once one exists
    state text not null default 'open' check (state in ('open', 'unknown', 'done')),
    result text,                -- of a done one: the provider's definite answer; of an unknown one: why
    tries integer not null default 0,
    next_at timestamptz not null default clock_timestamp(),
    claimed_until timestamptz not null,   -- whoever works on it has this long
    created_at timestamptz not null default clock_timestamp(),
    check ((idempotency_key is null) = (fingerprint is null))
) with (fillfactor = 80);
-- One command at a time for a payment: what the next one may do depends on this one's outcome.
create unique index intent_one_open on payments.intent (payment_id) where state <> 'done';
create index intent_due on payments.intent (next_at) where state <> 'done';

-- Answers to repeat. A row without an answer and without a refusal is a command in flight.
create table payments.idempotency (
    tenant text not null,
    payment_id uuid not null references payments.payment (id),
    operation text not null check (operation in ('capture', 'void', 'refund')),
    key text not null check (octet_length(key) between 1 and 255),
    fingerprint text not null,
    command_id uuid not null,
    answer bytea,               -- banyan.events.v1.PaymentState
    answer_version bigint,      -- the version of the stream that was answered
    refusal text,               -- the provider's code, when it said no
    created_at timestamptz not null default clock_timestamp(),
    primary key (tenant, payment_id, operation, key),
    check ((answer is null) = (answer_version is null)),
    check (answer is null or refusal is null)
);

-- Double entry: positive minor units are debits, negative ones credits. Rows never change.
create table payments.ledger_entry (
    transaction_id uuid not null,   -- the command's id
    account text not null check (account in ('clearing', 'payable', 'fees')),
    payment_id uuid not null references payments.payment (id),
    tenant text not null,
    amount_minor bigint not null check (amount_minor <> 0),
    currency text not null check (currency ~ '^[A-Z]{3}$'),
    created_at timestamptz not null default clock_timestamp(),
    primary key (transaction_id, account)
);
create index ledger_by_payment on payments.ledger_entry (payment_id);

create function payments.refuse_change() returns trigger
language plpgsql set search_path = pg_catalog, pg_temp as $$
begin
    raise exception 'ledger entries are immutable' using errcode = 'restrict_violation';
end $$;
create trigger immutable before update or delete on payments.ledger_entry
    for each row execute function payments.refuse_change();
create trigger not_emptied before truncate on payments.ledger_entry
    for each statement execute function payments.refuse_change();

-- Checked at commit, when all postings of the transaction are there.
create function payments.check_balance() returns trigger
language plpgsql set search_path = pg_catalog, pg_temp as $$
begin
    if exists (
        select from payments.ledger_entry e where e.transaction_id = new.transaction_id
        group by e.currency having sum(e.amount_minor) <> 0
    ) then
        raise exception 'ledger transaction % does not sum to zero', new.transaction_id
            using errcode = 'check_violation', constraint = 'ledger_balanced';
    end if;
    return null;
end $$;
create constraint trigger ledger_balanced after insert on payments.ledger_entry
    deferrable initially deferred for each row execute function payments.check_balance();

-- Lets a login role be this home's payments module. The ledger can only grow, for it too.
create function payments.grant_home(role name) returns void
language plpgsql set search_path = pg_catalog, pg_temp as $$
begin
    execute format('grant usage on schema payments to %I', $1);
    execute format('grant select on payments._migrations to %I', $1);
    execute format('grant select, insert, update on payments.payment, payments.intent, payments.idempotency to %I', $1);
    execute format('grant select, insert on payments.ledger_entry to %I', $1);
end $$;
revoke execute on all functions in schema payments from public;
