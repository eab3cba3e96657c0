"""The wordings in which values are asked for: the shipped ones, and an operator's further files."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

from django.conf import settings
from django.core.exceptions import ImproperlyConfigured

from evaluation.library import Library, read_library, shipped
from language_models.errors import RequestError

if TYPE_CHECKING:
    from pathlib import Path


def templates() -> Library:
    """The templates in force (LETHE_TEMPLATES names a folder of further ones).

    Raises ImproperlyConfigured with what is wrong in a file.
    """
    return _read(settings.TEMPLATES_FOLDER)


@lru_cache(maxsize=4)
def _read(folder: Path | None) -> Library:
    if folder is None:
        return shipped()
    files = sorted(folder.glob("*.yaml"))
    if not files:
        raise ImproperlyConfigured(
            f"LETHE_TEMPLATES: the folder {folder} holds no .yaml file. Put files in the form of"
            " evaluation/wordings there, or leave the variable out."
        )
    try:
        return read_library(files, base=shipped())
    except RequestError as error:
        raise ImproperlyConfigured(f"LETHE_TEMPLATES, {folder}: {error}") from None
