"""Personal data is ciphertext wherever it rests, under keys that can be rotated and destroyed."""

from __future__ import annotations

import os
import shutil
from typing import TYPE_CHECKING

import pytest
from django.conf import settings
from django.core.management import call_command
from django.db import connection, transaction
from hypothesis import given
from hypothesis import strategies as st

from compliance import envelope, key_files, store, subjects, tombstones, vault
from compliance.envelope import SealError
from compliance.key_files import KeyUnavailable
from compliance.models import DataKey, Subject
from tests.compliance import factories

if TYPE_CHECKING:
    from pathlib import Path

KEY = envelope.DataKey("a-key", bytes(range(32)))
KEK = bytes(reversed(range(32)))


@pytest.fixture
def keys(settings, tmp_path: Path) -> Path:
    """Key files of this test's own."""
    others = shutil.ignore_patterns("tombstones")  # of other tests
    shutil.copytree(settings.KEY_DIR, tmp_path / "keys", ignore=others)
    settings.KEY_DIR = tmp_path / "keys"
    vault._unwrapped.clear()
    return tmp_path / "keys/vault"


# --- Envelopes ---


@given(st.binary(max_size=2000))
def test_envelope_gives_back_what_was_sealed(plain: bytes) -> None:
    sealed = envelope.seal(KEY, plain)
    assert envelope.unseal(KEY, sealed) == plain
    assert envelope.key_name(sealed) == "a-key"


def test_envelope_detects_every_changed_bit() -> None:
    sealed = envelope.seal(KEY, b"Malee Tanaka")
    for place in range(8 * len(sealed)):
        changed = bytearray(sealed)
        changed[place // 8] ^= 1 << place % 8
        with pytest.raises(SealError):
            envelope.unseal(KEY, bytes(changed))


@given(st.binary(max_size=600))
def test_envelope_refuses_anything_else(noise: bytes) -> None:
    for hostile in (noise, envelope.MAGIC + noise):
        with pytest.raises(SealError):
            envelope.unseal(KEY, hostile)


def test_wrapped_key_is_bound_to_its_wrapping_key_and_its_name() -> None:
    wrapped = envelope.wrap(KEK, KEY)
    assert envelope.unwrap(KEK, wrapped, "a-key") == KEY
    with pytest.raises(SealError, match="another key"):
        envelope.unwrap(os.urandom(32), wrapped, "a-key")
    with pytest.raises(SealError):
        envelope.unwrap(KEK, wrapped, "another-name")


def test_data_key_does_not_print_itself() -> None:
    assert repr(KEY) == "DataKey(a-key)"


# --- Key files ---


@pytest.mark.django_db
def test_key_file_readable_by_others_is_refused(keys: Path) -> None:
    name = key_files.current_name(keys)
    (keys / f"{name}.key").chmod(0o640)
    with pytest.raises(KeyUnavailable, match=r"mode 640.*chmod 600"):
        vault.house_key()


@pytest.mark.django_db
def test_missing_wrapping_key_is_told_and_nothing_is_lost(keys: Path) -> None:
    case = factories.case(factories.organisation())
    name = key_files.current_name(keys)
    (keys / f"{name}.key").rename(keys / "away")
    vault._unwrapped.clear()
    with pytest.raises(KeyUnavailable, match=rf"vault/{name}\.key is missing"):
        Subject.objects.get(case=case)
    (keys / "away").rename(keys / f"{name}.key")
    assert Subject.objects.get(case=case).details["name"] == "Malee Tanaka"


@pytest.mark.django_db
@pytest.mark.parametrize("content", ["", "not base64 at all!", "c2hvcnQ="])
def test_damaged_key_file_is_named(keys: Path, content: str) -> None:
    name = key_files.current_name(keys)
    (keys / f"{name}.key").write_text(content)
    with pytest.raises(KeyUnavailable, match="32 bytes"):
        vault.house_key()


# --- Keys of cases ---


@pytest.mark.django_db
def test_sealed_field_holds_no_plain_text_in_the_database() -> None:
    case = factories.case(factories.organisation(), name="Zebulon Quagga")
    with connection.cursor() as cursor:
        cursor.execute("SELECT details FROM compliance_subject")
        stored = bytes(cursor.fetchone()[0])
    assert b"Zebulon" not in stored
    assert envelope.key_name(stored) == str(case.data_key.pk)
    case.subject.refresh_from_db()
    assert case.subject.details["name"] == "Zebulon Quagga"


@pytest.mark.django_db
def test_sealed_field_refuses_what_knows_no_row() -> None:
    case = factories.case(factories.organisation())
    with pytest.raises(TypeError, match="save"):
        Subject.objects.filter(case=case).update(details={"name": "in the clear"})


@pytest.mark.django_db
def test_destroyed_key_opens_nothing_and_leaves_other_cases_alone() -> None:
    bank = factories.organisation()
    one, other = factories.case(bank), factories.case(bank)
    vault.destroy(str(one.data_key.pk))
    with pytest.raises(SealError, match="destroyed"):
        Subject.objects.get(case=one)
    with pytest.raises(SealError, match="destroyed"):
        vault.key_of(one)
    assert Subject.objects.get(case=other).details["name"] == "Malee Tanaka"


@pytest.mark.django_db
def test_tombstone_closes_a_key_that_a_backup_brought_back(keys: Path) -> None:
    case = factories.case(factories.organisation())
    stone = tombstones.Tombstone(
        case.reference, "bank", str(case.data_key.pk), "withdrawn", "2026-11-22", "legal u-1"
    )
    tombstones.add(stone)
    tombstones.add(stone)
    assert tombstones.path().read_text().count("\n") == 1
    with pytest.raises(SealError, match="destroyed"):
        Subject.objects.get(case=case)


@pytest.mark.django_db
def test_damaged_tombstones_stop_everything_rather_than_bring_somebody_back(keys: Path) -> None:
    case = factories.case(factories.organisation())
    tombstones.path().write_text('{"case": "L2026')
    with pytest.raises(KeyUnavailable, match="tombstones is damaged"):
        Subject.objects.get(case=case)


@pytest.mark.django_db
def test_rotation_wraps_every_key_anew_and_changes_no_sealed_byte(keys: Path, capsys) -> None:
    case = factories.case(factories.organisation())
    digest = store.put(b"Malee Tanaka", vault.key_of(case))
    former = key_files.current_name(keys)
    call_command("rotate_keys")
    now = key_files.current_name(keys)
    assert now != former
    assert set(DataKey.objects.values_list("kek", flat=True)) == {now}
    assert f"{former}.key" in capsys.readouterr().out
    (keys / f"{former}.key").unlink()
    vault._unwrapped.clear()
    assert store.get(digest) == b"Malee Tanaka"
    assert Subject.objects.get(case=case).details["name"] == "Malee Tanaka"


# --- Keyed digests ---


@pytest.mark.django_db
def test_keyed_digest_separates_purposes_and_survives_rotation(keys: Path) -> None:
    before = vault.keyed_digest("a", "value")
    assert before == vault.keyed_digest("a", "value")
    assert before != vault.keyed_digest("b", "value")
    vault.rotate()
    assert vault.keyed_digest("a", "value") == before


@pytest.mark.django_db
def test_commitments_of_two_cases_to_one_value_differ() -> None:
    bank = factories.organisation()
    one, other = factories.case(bank), factories.case(bank)
    first = vault.commitment(one, "plan", "value")
    assert first == vault.commitment(one, "plan", "value")
    assert first != vault.commitment(other, "plan", "value")


@pytest.mark.django_db
def test_person_is_found_by_name_or_address_however_it_is_written() -> None:
    bank = factories.organisation()
    case = factories.case(bank, name="Malee  Tanaka", contact="Malee@Home.Example")
    elsewhere = factories.organisation("shop")
    factories.case(elsewhere, name="Malee Tanaka")
    for words in ("malee tanaka", "MALEE TANAKA ", "malee@home.example"):
        assert list(subjects.cases_of(bank, words)) == [case]
    assert not subjects.cases_of(bank, "Malee").exists()


# --- The store ---


@pytest.mark.django_db
def test_store_seals_and_names_by_ciphertext() -> None:
    key = vault.house_key()
    digest = store.put(b"Malee Tanaka", key)
    assert store.get(digest) == b"Malee Tanaka"
    assert b"Malee" not in store.artefact_path(digest).read_bytes()
    assert store.put(b"Malee Tanaka", key) != digest


@pytest.mark.django_db
def test_store_refuses_a_changed_artefact() -> None:
    digest = store.put(b"Malee Tanaka", vault.house_key())
    path = store.artefact_path(digest)
    path.write_bytes(path.read_bytes()[:-1] + b"\x00")
    with pytest.raises(store.StoreError, match="changed on disk"):
        store.get(digest)


def test_store_names_a_missing_artefact_without_a_path() -> None:
    with pytest.raises(store.StoreError, match="missing") as caught:
        store.get("0" * 64)
    assert str(settings.STORE_DIR) not in str(caught.value)


@pytest.mark.django_db
def test_dataset_is_sealed_under_a_key_that_goes_with_it() -> None:
    records = factories.PROFILE.replace("n-1", "of this test alone")
    digest = store.put_dataset(records.encode())
    assert store.get_dataset(digest).decode() == records
    (path,) = store.dataset_paths(digest)
    sealed = path.read_bytes()
    assert b"Malee" not in sealed
    store.remove_dataset(digest)
    with pytest.raises(SealError, match="destroyed"):
        vault.unseal(sealed)


@pytest.mark.django_db
def test_full_disk_leaves_no_half_file(monkeypatch) -> None:
    def full(_handle: int) -> None:
        raise OSError(28, "No space left on device")

    before = set(settings.STORE_DIR.rglob("*"))
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        store.put(b"Malee Tanaka", vault.house_key())
    assert {path for path in set(settings.STORE_DIR.rglob("*")) - before if path.is_file()} == set()


def test_full_disk_leaves_no_half_key_file(monkeypatch, tmp_path: Path) -> None:
    def full(_handle: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        key_files.write_private(tmp_path / "a.key", "secret")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.django_db
def test_attempt_that_was_taken_for_dead_cannot_write_over_the_recorded_copy(monkeypatch) -> None:
    """It wakes up in the middle of its writing, after another one recorded the same version."""
    records = factories.NOTE.encode() * 3
    write = store.write_whole
    recorded: list[str] = []

    def sleeping(path: Path, content: bytes) -> None:
        monkeypatch.setattr(store, "write_whole", write)
        recorded.append(store.put_dataset(records))
        write(path, content)

    monkeypatch.setattr(store, "write_whole", sleeping)
    with transaction.atomic():
        digest = store.put_dataset(records)
        # Its session is gone, and with it the row of its key.
        stale = DataKey.objects.filter(purpose="dataset").latest("created_at")
        first = DataKey.objects.filter(purpose="dataset").earliest("created_at")
        first.delete()
    assert stale.pk != first.pk
    assert recorded == [digest]
    assert len(store.dataset_paths(digest)) == 2
    assert store.get_dataset(digest) == records
    store.remove_dataset(digest)
    assert store.dataset_paths(digest) == []
