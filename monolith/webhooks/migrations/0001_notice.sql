-- What the provider told, as it came, and what became of it. One row per event of the provider's; the row is the custody: it
-- stays open until the payment's owner has taken the notice, or a person has decided.
create table webhooks.notice (
    id text primary key check (octet_length(id) between 1 and 255),     -- the provider's id of the event
    fingerprint bytea not null check (octet_length(fingerprint) = 32),  -- of what the event says; see `Event::fingerprint`
    body bytea not null check (octet_length(body) <= 262144),           -- the bytes that were signed
    signature text not null,                                            -- the header that came with them
    received_at timestamptz not null default clock_timestamp(),

    -- What the body says. Without a payment: not an object of ours, and the row was `ignored` from the start.
    kind text not null check (octet_length(kind) between 1 and 255),
    happened_at timestamptz not null,
    object text,            -- the provider's id of the payment intent or refund
    status text,            -- the object's, in the provider's words
    payment_id uuid,
    tenant text,
    command_id uuid,

    -- waiting: to be delivered; early: the payment is not known yet; surprise: the books don't have what it tells;
    -- unplaced: given up, for a person; the rest are ends.
    state text not null check
        (state in ('waiting', 'early', 'surprise', 'unplaced', 'applied', 'ignored', 'dismissed')),
    tries integer not null default 0,
    next_at timestamptz not null default clock_timestamp(),   -- of an open one: not before
    since timestamptz not null default clock_timestamp(),     -- when the tries began: at the receipt, or at a person's retry
    why text,               -- what the last try met
    ended_at timestamptz,
    decided_by text check (octet_length(decided_by) between 1 and 255),
    decided_why text check (octet_length(decided_why) between 1 and 1000),
    check ((state in ('applied', 'ignored', 'dismissed')) = (ended_at is not null)),
    check ((state = 'dismissed') = (decided_by is not null and decided_why is not null)),
    check (state = 'ignored' or (object is not null and payment_id is not null and tenant is not null))
) with (fillfactor = 80);
create index notice_due on webhooks.notice (next_at) where state in ('waiting', 'early', 'surprise');
create index notice_open on webhooks.notice (state, received_at)
    where state in ('waiting', 'early', 'surprise', 'unplaced');
create index notice_ended on webhooks.notice (ended_at) where ended_at is not null;
