-- What a tenant sells. Prices are whole minor units of a currency (cents for EUR).
create table catalog.product (
    id uuid primary key,
    tenant text not null check (tenant ~ '^[!-~]{1,255}$'),
    sku text not null check (length(sku) between 1 and 100),
    name text not null check (length(name) between 1 and 200),
    price_minor bigint not null check (price_minor > 0),
    currency text not null check (currency ~ '^[A-Z]{3}$'),
    unique (tenant, sku)
);

-- Lists go by tenant, newest id first.
create index product_by_tenant on catalog.product (tenant, id);
