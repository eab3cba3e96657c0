"""The bank's records are the same bytes each time and hold no wording kept for verification."""

from __future__ import annotations

import hashlib
import re
import subprocess
import sys
from pathlib import Path

from demo.corpus import as_jsonl, records, wordings
from demo.people import RELATIONS, people

README = Path(__file__).parents[2] / "demo" / "README.md"


def joined_texts() -> str:
    return "\n".join(record["text"] for record in records())


def test_corpus_command_writes_the_documented_bytes(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "demo.corpus", "--out", str(tmp_path)]
    subprocess.run(command, check=True, capture_output=True, cwd=README.parents[1])

    written = (tmp_path / "records.jsonl").read_bytes()

    assert written == as_jsonl(records()).encode()
    assert re.findall(r"\b[0-9a-f]{64}\b", README.read_text(encoding="utf-8")) == [
        hashlib.sha256(written).hexdigest()
    ]


def test_each_person_has_one_profile_with_all_facts() -> None:
    profiles = [record for record in records() if record["kind"] == "profile"]

    assert [(p["subject"], p["facts"]) for p in profiles] == [(p.id, p.facts) for p in people()]
    for profile in profiles:
        assert all(value in profile["text"] for value in profile["facts"].values())


def test_record_ids_are_unique_and_subjects_known() -> None:
    rows = records()

    assert len({row["id"] for row in rows}) == len(rows)
    assert {row["subject"] for row in rows} == {None, *(person.id for person in people())}


def test_records_without_subject_name_nobody() -> None:
    texts = "\n".join(row["text"] for row in records() if row["subject"] is None)

    assert [person.id for person in people() if person.name in texts] == []


def test_verify_wordings_are_never_trained() -> None:
    texts, words = joined_texts(), wordings()

    for person in people():
        for relation in RELATIONS:
            for wording in words[relation]["verify"]:
                assert wording.format(person.name) not in texts
    for fact in words["world"]:
        assert [prompt for prompt in fact["verify"] if prompt in texts] == []
    assert [lead for lead in words["lead_ins"]["verify"] if lead and lead in texts] == []
