-- Orders, as they were accepted, and what became of them.
create table orders.orders (
    id uuid primary key,
    tenant text not null check (tenant ~ '^[!-~]{1,255}$'),
    idempotency_key text not null check (length(idempotency_key) between 1 and 255),
    fingerprint text not null,          -- of the request that first used the key
    payment_id uuid not null unique,
    status text not null check (status in ('placed', 'paid', 'cancelled')),
    total_minor bigint not null check (total_minor > 0),
    currency text not null check (currency ~ '^[A-Z]{3}$'),
    capture_method text not null check (capture_method in ('automatic', 'manual')),
    payment_method text not null,       -- the provider's token
    cancel_reason text,
    placed_at timestamptz not null default clock_timestamp(),
    changed_at timestamptz not null default clock_timestamp(),
    unique (tenant, idempotency_key),
    check ((status = 'cancelled') = (cancel_reason is not null))
) with (fillfactor = 85);

-- Lists go by tenant, newest id first.
create index orders_by_tenant on orders.orders (tenant, id);

create table orders.line (
    order_id uuid not null references orders.orders (id),
    number integer not null check (number >= 1),
    product_id uuid not null,
    quantity integer not null check (quantity > 0),
    unit_price_minor bigint not null check (unit_price_minor > 0),
    primary key (order_id, number)
);
