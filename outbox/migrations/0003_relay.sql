-- What relays share: who is alive, and who sends which bucket. The lease is for economy; it is not what keeps order.
create table outbox.relay (
    id uuid primary key,            -- of one run of a process
    name text not null unique check (octet_length(name) between 1 and 200),
    seen_at timestamptz not null,
    expires_at timestamptz not null -- by its own `ttl`, which need not be that of the others
);

create table outbox.lease (
    bucket smallint primary key check (bucket between 0 and 63),
    relay uuid,
    expires_at timestamptz not null default '-infinity'
);
insert into outbox.lease (bucket) select generate_series(0, 63);

-- Renews what this relay holds, gives back what is over its fair share, takes what is free or expired up to that share,
-- and returns the buckets it holds now. All times are the database's. While another relay of the same name is alive: none.
create function outbox.lease(relay uuid, name text, ttl interval) returns setof smallint
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare
    share integer;
begin
    -- One at a time: the statements below count on each other's results.
    perform pg_advisory_xact_lock(hashtext('outbox.lease'));
    delete from outbox.relay r where r.expires_at <= clock_timestamp();
    insert into outbox.relay as r (id, name, seen_at, expires_at) values ($1, $2, clock_timestamp(), clock_timestamp() + $3)
    on conflict on constraint relay_name_key do update set seen_at = excluded.seen_at, expires_at = excluded.expires_at
    where r.id = excluded.id;
    if not found then
        return;
    end if;
    select ceil(64.0 / count(*)) into share from outbox.relay;
    update outbox.lease l
    set relay = case when kept.n <= share then $1 end,
        expires_at = case when kept.n <= share then clock_timestamp() + $3 else '-infinity' end
    from (
        select mine.bucket, row_number() over (order by mine.bucket) as n
        from outbox.lease mine where mine.relay = $1 and mine.expires_at > clock_timestamp()
    ) kept
    where l.bucket = kept.bucket;
    update outbox.lease l
    set relay = $1, expires_at = clock_timestamp() + $3
    from (
        select free.bucket from outbox.lease free
        where free.expires_at <= clock_timestamp()
        order by free.bucket
        limit greatest(0, share - (select count(*) from outbox.lease mine
                                   where mine.relay = $1 and mine.expires_at > clock_timestamp()))
    ) taken
    where l.bucket = taken.bucket;
    return query select l.bucket from outbox.lease l where l.relay = $1 and l.expires_at > clock_timestamp();
end $$;

-- Gives all leases back at once, on shutdown.
create function outbox.release(relay uuid) returns void
language sql security definer set search_path = pg_catalog, pg_temp as $$
    update outbox.lease l set relay = null, expires_at = '-infinity' where l.relay = $1;
    delete from outbox.relay r where r.id = $1;
$$;
