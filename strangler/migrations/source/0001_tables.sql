-- The source's half: the policy of each migration and the owner of each key. This is the one place of decision.
create schema if not exists strangler;

-- The policy: where reads go and where new keys are born. A change takes this row `for update` before it writes it; a birth
-- takes it `for key share`. (A plain update would not wait for a birth, nor a birth for it.)
create table strangler.migration (
    name text primary key check (name ~ '^[a-z0-9_-]{1,60}$'),
    stage text not null default 'local' check (stage in
        ('local', 'following', 'shadowing', 'reading', 'ramping', 'primary', 'sealed', 'removed')),
    percent smallint not null default 0 check (percent between 0 and 100),
    tenants text[] not null default '{}' check (cardinality(tenants) <= 1000),
    salt text not null,                        -- of the hash that spreads keys over percents; never changes
    metric text check (octet_length(metric) between 1 and 200),  -- the business metric that must improve
    draining boolean not null default false,   -- rolled back, but keys are still at the target
    held text check (octet_length(held) between 1 and 500),      -- why nobody may advance; null: not held
    revision bigint not null default 1,        -- grows with each change
    changed_at timestamptz not null default clock_timestamp()
);

-- Each policy that was in force, who set it and on what evidence.
create table strangler.history (
    migration text not null references strangler.migration (name),
    revision bigint not null,
    at timestamptz not null,
    action text not null check (action in ('define', 'advance', 'rollback', 'hold')),
    from_stage text,                           -- null for the first
    to_stage text not null,
    percent smallint not null,
    tenants text[] not null,
    draining boolean not null,
    by text not null check (octet_length(by) between 1 and 200),
    reason text not null check (octet_length(reason) <= 500),
    evidence jsonb not null default '{}',
    primary key (migration, revision)
);

-- Who may write a key. A write holds its row `for share`; whoever moves the key updates it.
create table strangler.owner (
    migration text not null,                   -- no foreign key: a birth has locked the policy's row already
    key text not null check (octet_length(key) between 1 and 255),
    tenant text not null check (octet_length(tenant) between 1 and 255),
    owner text not null check (owner in ('source', 'target')),
    phase text not null default 'settled' check (phase in ('settled', 'moving', 'recalling')),
    epoch bigint not null default 1 check (epoch >= 1),          -- grows with each change of owner or phase
    granted_epoch bigint not null default 0,   -- the last epoch that the target is known to have been granted
    born_at timestamptz not null,
    born_revision bigint not null,             -- of the policy that decided; 0: seeded, older than all policies
    primary key (migration, key),
    -- A key leaves the home that has it: it is moving from the source, or recalled from the target.
    check (phase = 'settled' or (phase = 'moving') = (owner = 'source'))
);
create index owner_home on strangler.owner (migration, owner, phase);

-- How far seeding came, so that it goes on where it stopped.
create table strangler.seeding (
    migration text primary key references strangler.migration (name),
    after text,                                -- the last key seeded; null: none
    seeded bigint not null default 0
);

-- Which controller acts. Times are the database's. It saves work; what keeps a policy consistent is its row lock.
create table strangler.lease (
    migration text primary key references strangler.migration (name),
    holder text not null,
    expires_at timestamptz not null
);

-- Defines a migration, in stage `local`, with a salt of its own. False when it is there already.
create function strangler.define(migration text) returns boolean
language plpgsql set search_path = pg_catalog, pg_temp as $$
begin
    insert into strangler.migration (name, salt) values ($1, replace(gen_random_uuid()::text, '-', ''))
    on conflict (name) do nothing;
    if not found then
        return false;
    end if;
    insert into strangler.history (migration, revision, at, action, to_stage, percent, tenants, draining, by, reason)
    select m.name, m.revision, m.changed_at, 'define', m.stage, m.percent, m.tenants, m.draining, session_user, 'defined'
    from strangler.migration m where m.name = $1;
    return true;
end $$;
