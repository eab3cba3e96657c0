"""Tracebacks show no local variable: any of them may hold personal data."""

from __future__ import annotations

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
