-- What the last try read is nothing that the command can have led to: past the provider's key lifetime only a person ends it.
alter table payments.intent add for_person boolean not null default false;
