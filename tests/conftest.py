"""What every test shares."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from django.conf import settings
from django.db import connection
from django.test import TransactionTestCase

from compliance import append_only

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(autouse=True, scope="session")
def tables_can_be_emptied() -> Iterator[None]:
    """Tests with real commits empty all tables at their end, which the log's triggers refuse."""
    patch = pytest.MonkeyPatch()
    empty = TransactionTestCase._fixture_teardown

    def without_triggers(case: TransactionTestCase) -> None:
        append_only.remove(connection)
        empty(case)
        append_only.install(connection)

    patch.setattr(TransactionTestCase, "_fixture_teardown", without_triggers)
    yield
    patch.undo()


@pytest.fixture(autouse=True)
def no_checkpoint_of_another_test() -> None:
    """Each test has a log of its own, which the checkpoints of others contradict."""
    for note in settings.CHECKPOINT_DIR.glob("*"):
        note.unlink()
