"""Heavy steps on datasets: find, delete or correct a person's rows, check the result. No Django."""

from __future__ import annotations

from collections.abc import Callable

Report = Callable[[str, int, int], None]
