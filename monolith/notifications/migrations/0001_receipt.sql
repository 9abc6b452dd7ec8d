-- Receipts to send to customers. One per event that moved money; its id is the event's.
create table notifications.receipt (
    id uuid primary key,
    tenant text not null,
    order_id uuid not null,
    payment_id uuid not null,
    subject text not null check (subject in ('payment', 'refund')),
    amount_minor bigint not null check (amount_minor > 0),
    currency text not null check (currency ~ '^[A-Z]{3}$'),
    queued_at timestamptz not null default clock_timestamp(),
    sent_at timestamptz
);

create index receipt_by_payment on notifications.receipt (payment_id);
