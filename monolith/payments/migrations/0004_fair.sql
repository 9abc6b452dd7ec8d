-- Open work is taken from each tenant in turn: found by tenant first, then by time.
drop index payments.payment_due;
create index payment_due on payments.payment (tenant, look_at) where status = 'requested';
drop index payments.intent_due;
create index intent_due on payments.intent (tenant, next_at) where state <> 'done';

-- A look found that the other home owns the payment. Only for numbers: who owns it is asked again at each look.
alter table payments.payment add elsewhere boolean not null default false;
