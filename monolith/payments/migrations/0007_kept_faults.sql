-- Since when the provider answers the current attempt with a fault that it keeps under the key; null: it does not.
alter table payments.intent add kept_at timestamptz;
