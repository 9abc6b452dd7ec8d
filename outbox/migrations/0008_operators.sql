-- What operators do by hand, and the record of it.

-- Every action of an operator, written in the transaction of the action. Nothing here updates or deletes a row.
create table outbox.audit (
    id bigint generated always as identity primary key,
    at timestamptz not null default clock_timestamp(),
    role name not null default session_user,
    actor text not null check (actor ~ '\S' and octet_length(actor) <= 200),       -- the person, as the caller names them
    action text not null check (action ~ '^[a-z_]{1,50}$'),
    subject jsonb not null check (jsonb_typeof(subject) = 'object'),               -- topic, key, version, handler ...
    reason text not null check (reason ~ '\S' and octet_length(reason) <= 2000)
);

create function outbox.note_audit(actor text, action text, subject jsonb, reason text) returns bigint
language sql security definer set search_path = pg_catalog, pg_temp as $$
    insert into outbox.audit (actor, action, subject, reason) values ($1, $2, $3, $4) returning id
$$;

-- The functions that an operator may execute; later migrations add theirs.
create table outbox.operator_function (
    signature text primary key      -- such as outbox.resend(text,text,bigint,text,text)
);

-- Lets a login role see the outbox and inbox, and repair them by the functions above.
create function outbox.grant_operator(role name) returns void
language plpgsql set search_path = pg_catalog, pg_temp as $$
declare
    signature_ text;
begin
    execute format('grant usage on schema outbox to %I', $1);
    execute format('grant select on all tables in schema outbox to %I', $1);
    execute format('grant select on sequence outbox.position to %I', $1);
    for signature_ in select f.signature from outbox.operator_function f loop
        execute format('grant execute on function %s to %I', signature_, $1);
    end loop;
end $$;

revoke execute on function outbox.note_audit(text, text, jsonb, text), outbox.grant_operator(name) from public;
