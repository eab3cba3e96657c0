"""The reader of the proof of promotions notices what it is there to notice."""

from __future__ import annotations

from typing import TYPE_CHECKING

from language_models.files import model_digest
from proofs.promotion_reader import digest, read

if TYPE_CHECKING:
    from pathlib import Path


def test_reader_tells_torn_dangling_and_missing_from_held(tmp_path: Path) -> None:
    work = tmp_path / "work"
    work.mkdir()
    (work / "config.json").write_text("{}")
    (work / "manifest.json").write_text("named, not hashed")
    name = digest(work)
    assert name == model_digest(work)
    folder, link = tmp_path / name, tmp_path / "serving"
    assert read(link) == ("missing", "")
    link.symlink_to(name)
    assert read(link) == ("dangling", name)
    work.rename(folder)
    assert read(link) == ("held", name)
    (folder / "config.json").write_text("{ }")
    assert read(link) == ("torn", name)
