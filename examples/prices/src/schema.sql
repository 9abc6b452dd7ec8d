-- The same table at both homes. Keys in byte order, as both homes compare them.
create schema shop;
create table shop.price (
    sku text collate "C" primary key check (octet_length(sku) between 1 and 255),
    tenant text not null,
    minor bigint not null check (minor >= 0),
    version bigint not null default 0,    -- of the price's stream; 0: older than the stream
    changed_at timestamptz not null default clock_timestamp()
);
create index price_changed on shop.price (changed_at desc);
