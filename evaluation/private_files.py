"""Files that name a person, or open what does: written once, for their owner alone."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from language_models.errors import RequestError

if TYPE_CHECKING:
    from pathlib import Path


def check_new(*paths: Path | None) -> None:
    """Raise RequestError for a file that is there already, or whose folder is not.

    Asked before long work, of which nothing would be left otherwise.
    """
    for path in paths:
        if path is not None and path.exists():
            raise RequestError("A file to be written exists already. It stays; choose a new name.")
        if path is not None and not path.parent.is_dir():
            raise RequestError("The folder of a file to be written does not exist. Make it first.")


def write_new(*files: tuple[Path, bytes]) -> None:
    """Write files with mode 0600, all of them or none.

    Raises FileExistsError when one is there, and OSError.
    """
    made: list[Path] = []
    try:
        for path, content in files:
            handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            made.append(path)
            with os.fdopen(handle, "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
    except BaseException:
        for path in made:
            path.unlink(missing_ok=True)
        raise
