"""When an answer is due. Pure functions of dates: no clock, no database.

A day on which offices are closed is a Saturday, a Sunday or a date in `holidays`. National
holiday calendars are not loaded yet, so a due date may fall one or more days too early, never
too late.
"""

from __future__ import annotations

import calendar
from datetime import date, timedelta
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Collection

_SATURDAY = 5


def add_months(start: date, months: int) -> date:
    """Same day of a later month, or that month's last day (Reg. 1182/71 Art. 3(2)(c))."""
    index = start.month - 1 + months
    year, month = start.year + index // 12, index % 12 + 1
    return date(year, month, min(start.day, calendar.monthrange(year, month)[1]))


def next_working_day(day: date, holidays: Collection[date] = ()) -> date:
    """The day itself, or the next on which offices are open (Reg. 1182/71 Art. 3(4))."""
    while day.weekday() >= _SATURDAY or day in holidays:
        day += timedelta(days=1)
    return day


def due_date(deadline: dict[str, Any], received: date, holidays: Collection[date] = ()) -> date:
    """The last day to answer. `deadline`: {unit: months|days, length: int, …} of a law pack.

    The day of receipt is not counted (Reg. 1182/71 Art. 3(1); Thai Civil Code s. 193/3).
    """
    if deadline["unit"] == "months":
        last = add_months(received, deadline["length"])
    elif deadline["unit"] == "days":
        last = received + timedelta(days=deadline["length"])
    else:
        raise ValueError(f"Unknown unit of a deadline: {deadline['unit']!r}")
    return next_working_day(last, holidays)
