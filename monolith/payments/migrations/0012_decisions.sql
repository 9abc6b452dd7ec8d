-- What this home found when it decided itself what the other home had decided. Counts are of ten seconds and one version of the
-- program; they are lost with a process that dies before it wrote them, and so are never too high.

create table payments.decision (
    at timestamptz not null,           -- the ten seconds begin
    version text not null check (octet_length(version) between 1 and 100),
    class text not null check (class in ('equal', 'money', 'structure', 'undecidable')),
    outcome text not null check (octet_length(outcome) between 1 and 100),
    count bigint not null check (count > 0),
    primary key (at, version, class, outcome)
);

create table payments.decision_mutant (
    at timestamptz not null,
    version text not null check (octet_length(version) between 1 and 100),
    mutant text not null check (octet_length(mutant) between 1 and 100),
    caught bigint not null check (caught >= 0),
    missed bigint not null check (missed >= 0),
    primary key (at, version, mutant)
);

-- The latest hundred that were not equal. No foreign key: what is told stays when what it tells of is gone.
create table payments.decision_sample (
    id bigint generated always as identity primary key,
    at timestamptz not null,
    version text not null check (octet_length(version) between 1 and 100),
    class text not null check (class in ('money', 'structure', 'undecidable')),
    payment_id uuid not null,
    payment_version bigint not null,
    text text not null check (octet_length(text) <= 400)
);

-- What a home needs beside `payments.grant_home`.
create function payments.grant_decisions(role name) returns void
language plpgsql set search_path = pg_catalog, pg_temp as $$
begin
    execute format('grant select, insert, update, delete on payments.decision, payments.decision_mutant to %I', $1);
    execute format('grant select, insert, delete on payments.decision_sample to %I', $1);
end $$;
revoke execute on function payments.grant_decisions(name) from public;
