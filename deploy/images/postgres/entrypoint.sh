#!/bin/sh
# Makes a cluster as POSTGRES_USER, POSTGRES_PASSWORD and POSTGRES_DB say, then becomes the server.
set -eu

: "${POSTGRES_USER:=postgres}"
: "${POSTGRES_DB:=$POSTGRES_USER}"
: "${PGDATA:=/var/lib/postgresql/data}"
if [ -z "${POSTGRES_PASSWORD:-}" ]; then
    echo 'POSTGRES_PASSWORD is not set; give the superuser a password' >&2
    exit 1
fi
case ${1:-} in
    '') set -- postgres ;;
    -*) set -- postgres "$@" ;;
    postgres) ;;
    *) exec "$@" ;;
esac

bin=/usr/local/postgresql
as_postgres() { setpriv --reuid=postgres --regid=postgres --init-groups -- "$@"; }

if [ ! -s "$PGDATA/PG_VERSION" ]; then
    install -d -m 0700 -o postgres -g postgres "$PGDATA"
    secret=$(mktemp)
    printf '%s\n' "$POSTGRES_PASSWORD" > "$secret"
    chown postgres "$secret"
    as_postgres "$bin/initdb" --pgdata="$PGDATA" --username="$POSTGRES_USER" --pwfile="$secret" \
        --auth-local=trust --auth-host=scram-sha-256 --encoding=UTF8 --locale=C.UTF-8 --no-sync
    rm -f "$secret"
    echo 'host all all all scram-sha-256' >> "$PGDATA/pg_hba.conf"
    if [ "$POSTGRES_DB" != postgres ]; then
        quoted=$(printf '%s' "$POSTGRES_DB" | sed 's/"/""/g')
        printf 'create database "%s"\n' "$quoted" | as_postgres "$bin/postgres" --single -D "$PGDATA" postgres
    fi
fi
install -d -m 2775 -o postgres -g postgres /var/run/postgresql

shift
exec setpriv --reuid=postgres --regid=postgres --init-groups -- \
    "$bin/postgres" -D "$PGDATA" -c 'listen_addresses=*' "$@"
