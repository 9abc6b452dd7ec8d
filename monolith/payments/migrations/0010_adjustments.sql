-- What the adjustments of both homes followed at the provider. The stream tells it, while the audit stays at the home that acted.
create table payments.adjustment (
    transaction_id uuid primary key,   -- the ledger's
    payment_id uuid not null references payments.payment (id),
    delta_minor bigint not null check (delta_minor <> 0),
    object text not null,
    payment_intent text,               -- of a charge or a refund
    reason text not null
);
create index adjustment_by_payment on payments.adjustment (payment_id);

-- Those of this home until now; the other's are not known here.
insert into payments.adjustment (transaction_id, payment_id, delta_minor, object, payment_intent, reason)
select (a.detail ->> 'adjustment')::uuid, a.payment_id, (a.detail ->> 'delta_minor')::bigint, a.detail ->> 'object',
    a.detail ->> 'payment_intent', a.reason
from payments.audit a join payments.payment p on p.id = a.payment_id
where a.action = 'adjusted'
on conflict do nothing;

create function payments.grant_adjustments(role name) returns void
language plpgsql set search_path = pg_catalog, pg_temp as $$
begin
    execute format('grant select, insert on payments.adjustment to %I', $1);
end $$;
revoke execute on function payments.grant_adjustments(name) from public;
