"""A producer in Python: rows and their events in one transaction, all events in one call.

    DATABASE_URL=postgres://notes@localhost/notes python3 note.py n-1=hello n-2=world

Needs psycopg2 (Debian: python3-psycopg2). The role was granted once, by the database's owner:
select outbox.grant_module('notes', 'shop.notes', '{notes.v1}');
"""

import json
import os
import sys

import psycopg2
from psycopg2.extras import Json

PUBLISH_ALL = "select outbox.publish_all(%s, %s, %s, %s::bytea[], %s::jsonb[])"


def write(connection, notes):
    """Writes notes and publishes one event for each; returns the events' versions."""
    # Commits at the end, rolls back if anything fails.
    with connection, connection.cursor() as cursor:
        for key, text in notes:
            cursor.execute(
                "insert into note (id, text) values (%s, %s)"
                " on conflict (id) do update set text = excluded.text",
                (key, text),
            )
        payloads = [json.dumps({"key": key, "text": text}).encode() for key, text in notes]
        headers = Json({"tenant": "acme", "content-type": "application/json"})
        cursor.execute(
            PUBLISH_ALL,
            (
                ["notes.v1"] * len(notes),
                [key for key, _ in notes],
                ["test.noted.v1"] * len(notes),
                [psycopg2.Binary(payload) for payload in payloads],
                [headers] * len(notes),
            ),
        )
        return cursor.fetchone()[0]


def main():
    notes = [argument.split("=", 1) for argument in sys.argv[1:]]
    connection = psycopg2.connect(os.environ["DATABASE_URL"])
    try:
        for (key, _), version in zip(notes, write(connection, notes)):
            print(f"{key} is at version {version}")
    finally:
        connection.close()


if __name__ == "__main__":
    main()
