"""Tracebacks show no local variable and no message: any of them may hold personal data."""

from __future__ import annotations

import logging
import traceback
from typing import Any

from django.views.debug import SafeExceptionReporterFilter


class HideEverything(SafeExceptionReporterFilter):
    """Django's reporter without locals, settings or POST data."""

    def is_active(self, request: Any) -> bool:
        return True

    def get_traceback_frame_variables(self, request: Any, tb_frame: Any) -> Any:
        return {}.items()

    def get_post_parameters(self, request: Any) -> dict[str, str]:
        return {}

    def get_safe_settings(self) -> dict[str, str]:
        return {}


class PlacesOnly(logging.Formatter):
    """Log lines whose tracebacks name places and kinds of errors, never their messages."""

    def formatException(self, ei: Any) -> str:  # noqa: N802 -- logging's name
        kind, _, trace = ei
        places = (
            f"  {frame.filename}:{frame.lineno} in {frame.name}"
            for frame in traceback.extract_tb(trace)
        )
        return "\n".join([*places, kind.__name__ if kind else ""])
