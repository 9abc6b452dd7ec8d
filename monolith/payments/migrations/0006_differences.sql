-- What the provider's settlement list and the books don't agree on.

-- One row for each difference while it is open; closed ones stay, as history.
create table payments.difference (
    id bigint generated always as identity primary key,
    subject text not null check (octet_length(subject) between 1 and 300),   -- the same at every look
    kind text not null check (kind in ('missing_here', 'missing_there', 'amount', 'state', 'late')),
    tenant text,                -- null with payment_id: of no payment of ours
    payment_id uuid,
    object text not null,       -- the provider's charge, refund or payment intent
    here_minor bigint,          -- what the books have; null: nothing
    there_minor bigint,         -- what the list has; null: nothing
    currency text check (currency ~ '^[A-Z]{3}$'),
    detail text not null,
    at timestamptz not null,    -- around when its line is, or should be, in the list
    state text not null default 'open' check (state in ('open', 'closed')),
    accepted boolean not null default false,   -- a person lives with it: found again unchanged, it stays closed
    opened_at timestamptz not null default clock_timestamp(),
    closed_at timestamptz,
    closed_by text check (octet_length(closed_by) between 1 and 255),
    reason text,
    check ((tenant is null) = (payment_id is null)),
    check ((state = 'closed') = (closed_at is not null and closed_by is not null and reason is not null)),
    check (state = 'closed' or not accepted)
);
create unique index difference_one_open on payments.difference (subject) where state = 'open';
create index difference_by_subject on payments.difference (subject, id desc);

-- Which line a ledger transaction answers for. Kept for as long as the list is read again.
create table payments.settled (
    transaction_id uuid primary key,
    line text not null
);

-- The last whole run.
create table payments.reconciliation (
    only_row boolean primary key default true check (only_row),
    ended_at timestamptz not null,
    lines bigint not null,
    states_after uuid           -- the last authorized payment that was looked at
);

-- A refund made in the provider's dashboard names the payment intent only.
create index payment_by_ref on payments.payment (provider_ref) where provider_ref is not null;
create index payment_authorized on payments.payment (id) where status = 'authorized';

create function payments.grant_reconciliation(role name) returns void
language plpgsql set search_path = pg_catalog, pg_temp as $$
begin
    execute format('grant select, insert, update on payments.difference, payments.reconciliation to %I', $1);
    execute format('grant select, insert, delete on payments.settled to %I', $1);
end $$;
revoke execute on function payments.grant_reconciliation(name) from public;
