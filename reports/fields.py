"""The simple values of a record; `reports.evidence` says what each must look like."""

from __future__ import annotations

from typing import NewType

Time = NewType("Time", str)
"""ISO 8601 with offset, for example 2026-11-22T14:31:00+00:00."""

Date = NewType("Date", str)
"""ISO 8601 calendar day, for example 2026-11-22."""

Digest = NewType("Digest", str)
"""SHA-256, 64 lower-case hexadecimal digits."""

Rate = NewType("Rate", float)
"""Fraction from 0 to 1."""

Count = NewType("Count", int)
"""Whole number from 0."""
