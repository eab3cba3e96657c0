"""In child processes: when these packages import what is heavy."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FOLDERS = ["language_models", "editing", "unlearning", "evaluation", "search"]


def _loaded(code: str, names: set[str]) -> set[str]:
    """Run `code` in a fresh interpreter; return which of `names` it loaded."""
    program = f"{code}\nimport sys\nprint(*({names!r} & sys.modules.keys()))"
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True
    )
    return set(done.stdout.split())


@pytest.mark.parametrize("folder", FOLDERS)
def test_package_alone_does_not_load_torch(folder: str) -> None:
    code = f"import {folder}, language_models.errors, language_models.matching"

    assert _loaded(code, {"torch", "transformers"}) == set()
