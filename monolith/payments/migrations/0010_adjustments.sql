-- What the adjustments of both homes followed at the provider. The stream tells it, while the audit stays at the home that acted;
-- what a home adjusted before this table was there stands in its audit only.
create table payments.adjustment (
    transaction_id uuid primary key,   -- the ledger's
    payment_id uuid not null references payments.payment (id),
    delta_minor bigint not null check (delta_minor <> 0),
    object text not null,
    payment_intent text,               -- of a charge or a refund
    reason text not null
);
create index adjustment_by_payment on payments.adjustment (payment_id);

create function payments.grant_adjustments(role name) returns void
language plpgsql set search_path = pg_catalog, pg_temp as $$
begin
    execute format('grant select, insert on payments.adjustment to %I', $1);
end $$;
revoke execute on function payments.grant_adjustments(name) from public;
