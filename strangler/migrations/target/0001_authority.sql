-- The target's half: which keys this home may write, and at which epoch.
create schema if not exists strangler;

-- A write holds its key's row `for share`; a grant, a recall or a fence updates it.
create table strangler.authority (
    migration text not null,
    key text not null check (octet_length(key) between 1 and 255),
    epoch bigint not null check (epoch >= 1),
    writable boolean not null,
    recall_epoch bigint,          -- recalled, not yet fenced: no new intents, what is under way goes on
    born_at timestamptz not null default clock_timestamp(),
    changed_at timestamptz not null default clock_timestamp(),
    constraint authority_pkey primary key (migration, key),
    check (recall_epoch >= epoch)
);

-- A birth at this home, in the transaction that applies the key's first event. True when the row is new: a repeat changes
-- nothing, nor does a late birth of a key whose authority has moved on.
create function strangler.born(migration text, key text, epoch bigint) returns boolean
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
begin
    insert into strangler.authority (migration, key, epoch, writable) values ($1, $2, $3, true)
    on conflict on constraint authority_pkey do nothing;
    return found;
end $$;

-- Locks a key for a write by this home, until the transaction ends. A lock held by whoever moves the key raises 55P03 at
-- once. Verdicts:
--   writable   write, at this epoch                recalled   going back to the source: retry
--   fenced     the source's to write again         missing    the source's, or its first event is not applied yet
create function strangler.lock_authority(migration text, key text, out verdict text, out epoch bigint)
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare
    stored strangler.authority;
begin
    select a.* into stored from strangler.authority a where a.migration = $1 and a.key = $2 for share nowait;
    verdict := case
        when stored.key is null then 'missing'
        when not stored.writable then 'fenced'
        when stored.recall_epoch is not null then 'recalled'
        else 'writable'
    end;
    epoch := coalesce(stored.epoch, 0);
end $$;

-- Whether this home may write a key, without a lock.
create function strangler.holds(migration text, key text) returns boolean
language sql stable security definer set search_path = pg_catalog, pg_temp as $$
    select exists (select from strangler.authority a where a.migration = $1 and a.key = $2 and a.writable)
$$;
