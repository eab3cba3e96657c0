"""Remove what deleted rows leave in the files of the database."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand
from django.db import DatabaseError, connection

from compliance import shredding


class Command(BaseCommand):
    help = (
        "After a shredding: empty SQLite's write-ahead log, or rewrite PostgreSQL's tables and "
        "turn over its log. Tables are locked meanwhile; run it when nobody works."
    )

    def handle(self, *args: Any, **options: Any) -> None:
        shredding.scrub_database()
        if connection.vendor == "postgresql":
            self._rewrite_tables()
        self.stdout.write("The database was scrubbed. Check with: manage.py scan_residues")

    def _rewrite_tables(self) -> None:
        tables = connection.introspection.table_names()
        with connection.cursor() as cursor:
            for table in tables:
                cursor.execute(f"VACUUM (FULL, ANALYZE) {connection.ops.quote_name(table)}")
            try:
                # Segments before the last checkpoint are given up; with wal_recycle=off removed.
                for statement in ("CHECKPOINT", "SELECT pg_switch_wal()", "CHECKPOINT"):
                    cursor.execute(statement)
            except DatabaseError:
                self.stdout.write(
                    "This account may not turn over the write-ahead log. Have a superuser run: "
                    "CHECKPOINT; SELECT pg_switch_wal(); CHECKPOINT;"
                )
