"""Triggers by which the database itself refuses to change or remove an event of the log.

They stop mistakes and whoever has the application's account. An owner of the tables can drop them,
and a file can be written past SQLite: that is what the tree and its signed checkpoints are for.
"""

from __future__ import annotations

from typing import Any

TABLE = "compliance_auditevent"
REFUSAL = "the log of record is append-only"

_SQLITE = {
    f"{TABLE}_no_{act}": (
        f"CREATE TRIGGER {TABLE}_no_{act} BEFORE {act} ON {TABLE} "
        f"BEGIN SELECT RAISE(ABORT, '{REFUSAL}'); END"
    )
    for act in ("UPDATE", "DELETE")
}
# REPLACE deletes without asking the trigger of DELETE.
_THERE = f"EXISTS (SELECT 1 FROM {TABLE} WHERE seq = NEW.seq)"  # noqa: S608 -- constants
_SQLITE[f"{TABLE}_no_REPLACE"] = (
    f"CREATE TRIGGER {TABLE}_no_REPLACE BEFORE INSERT ON {TABLE} WHEN {_THERE} "
    f"BEGIN SELECT RAISE(ABORT, '{REFUSAL}'); END"
)
_FUNCTION = (
    f"CREATE OR REPLACE FUNCTION {TABLE}_refuse() RETURNS trigger LANGUAGE plpgsql AS "
    f"$$ BEGIN RAISE EXCEPTION '{REFUSAL}'; END $$"
)
_POSTGRESQL = {
    f"{TABLE}_no_change": (
        f"CREATE TRIGGER {TABLE}_no_change BEFORE UPDATE OR DELETE ON {TABLE} "
        f"FOR EACH ROW EXECUTE FUNCTION {TABLE}_refuse()"
    ),
    f"{TABLE}_no_truncate": (
        f"CREATE TRIGGER {TABLE}_no_truncate BEFORE TRUNCATE ON {TABLE} "
        f"FOR EACH STATEMENT EXECUTE FUNCTION {TABLE}_refuse()"
    ),
}


def install(connection: Any) -> None:
    """Put the triggers up. Raises for a database that is neither SQLite nor PostgreSQL."""
    triggers = {"sqlite": _SQLITE, "postgresql": _POSTGRESQL}[connection.vendor]
    with connection.cursor() as cursor:
        if connection.vendor == "postgresql":
            cursor.execute(_FUNCTION)
        for statement in triggers.values():
            cursor.execute(statement)


def remove(connection: Any) -> None:
    """Take the triggers down: for a migration that alters the table, and for tests."""
    on_table = f" ON {TABLE}" if connection.vendor == "postgresql" else ""
    with connection.cursor() as cursor:
        for name in (*_SQLITE, *_POSTGRESQL):
            cursor.execute(f"DROP TRIGGER IF EXISTS {name}{on_table}")


def in_place(connection: Any) -> bool:
    """Whether every trigger is there."""
    if connection.vendor == "sqlite":
        wanted, query = _SQLITE, "SELECT name FROM sqlite_master WHERE type = 'trigger'"
    else:
        wanted = _POSTGRESQL
        query = (
            "SELECT tgname FROM pg_trigger WHERE tgenabled IN ('O', 'A') "  # noqa: S608 -- constants
            f"AND tgrelid = '{TABLE}'::regclass"
        )
    with connection.cursor() as cursor:
        cursor.execute(query)
        return set(wanted) <= {row[0] for row in cursor.fetchall()}
