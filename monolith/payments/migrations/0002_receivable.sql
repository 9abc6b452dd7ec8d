-- An account for what a difference with the provider leaves open, and the ledger's rules at commit in one place.
alter table payments.ledger_entry drop constraint ledger_entry_account_check;
alter table payments.ledger_entry add constraint ledger_entry_account_check
    check (account in ('receivable', 'clearing', 'payable', 'fees'));

-- A tenant's trial balance reads this index and nothing else.
create index ledger_by_tenant on payments.ledger_entry (tenant, currency, account) include (amount_minor);

-- Checked at commit, when all lines of the transaction are there: one currency, one payment, a sum of zero. No line is zero,
-- so there are two of them at least. All were written together (one xmin): what is booked gets no further lines.
create or replace function payments.check_balance() returns trigger
language plpgsql set search_path = pg_catalog, pg_temp as $$
begin
    if exists (
        select from payments.ledger_entry e where e.transaction_id = new.transaction_id
        having sum(e.amount_minor) <> 0 or count(*) < 2 or min(e.currency) <> max(e.currency)
            or min(e.payment_id::text) <> max(e.payment_id::text) or min(e.tenant) <> max(e.tenant)
            or min(e.xmin::text) <> max(e.xmin::text)
    ) then
        raise exception 'ledger transaction % is not one balanced booking', new.transaction_id
            using errcode = 'check_violation', constraint = 'ledger_balanced';
    end if;
    return null;
end $$;
