-- Also for a session that calls itself a replica, in which other triggers don't fire.
alter table payments.ledger_entry enable always trigger immutable;
alter table payments.ledger_entry enable always trigger not_emptied;
alter table payments.ledger_entry enable always trigger ledger_balanced;
