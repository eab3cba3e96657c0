"""Documents that are rendered and signed once for all tests of this folder."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from reports import letter, report, signature
from tests.reports import factories, letters

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(scope="session")
def full_report() -> bytes:
    """The report of a removal that was carried out."""
    return report.render(factories.full_evidence())


@pytest.fixture(scope="session")
def printed() -> dict[str, bytes]:
    """One letter per language."""
    return {
        "en": letter.render(letters.english_letter()),
        "th": letter.render(letters.thai_letter()),
        "ja": letter.render(letters.japanese_letter()),
        "lo": letter.render(letters.lao_letter()),
    }


@pytest.fixture(scope="session")
def key_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a demonstration key and certificate."""
    folder: Path = tmp_path_factory.mktemp("signing")
    signature.make_demo_certificate(folder, "Meridian Bank (fictional)")
    return folder


@pytest.fixture(scope="session")
def signed_report(full_report: bytes, key_folder: Path) -> bytes:
    """The full report with its certification signature."""
    return signature.sign(
        full_report, key_folder, reason="Accountability report", location="Bangkok"
    )
