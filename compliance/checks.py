"""System checks: with an error in one, manage.py starts nothing."""

from __future__ import annotations

from typing import Any

from django.core.checks import CheckMessage, Error, register
from django.core.exceptions import ImproperlyConfigured

from .policy import policy


@register
def policy_can_be_used(app_configs: Any, **_: Any) -> list[CheckMessage]:
    """The policy file is read whole before anything is decided by it."""
    try:
        policy()
    except ImproperlyConfigured as error:
        return [Error(str(error), id="compliance.E001")]
    return []
