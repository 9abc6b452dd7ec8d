-- Since when the provider answers the current attempt with a fault that it keeps under the key; null: it does not.
alter table payments.intent add kept_at timestamptz;

-- When the last whole run began: the next one reads from a window before that, so that an outage of any length leaves no gap.
alter table payments.reconciliation add began_at timestamptz;
update payments.reconciliation set began_at = ended_at;
alter table payments.reconciliation alter began_at set not null;
