"""Personal data is ciphertext wherever it rests."""

from __future__ import annotations

import os

import pytest
from django.conf import settings
from django.db import connection
from hypothesis import given
from hypothesis import strategies as st

from compliance import envelope, store, vault
from tests.compliance import factories

KEY = bytes(range(32))


@given(st.binary(max_size=2000))
def test_envelope_gives_back_what_was_sealed(plain: bytes) -> None:
    assert envelope.unseal(KEY, envelope.seal(envelope.new_data_key(KEY), plain)) == plain


def test_envelope_detects_every_changed_byte() -> None:
    sealed = envelope.seal(envelope.new_data_key(KEY), b"Malee Tanaka")
    for place in range(len(sealed)):
        changed = bytearray(sealed)
        changed[place] ^= 1
        with pytest.raises(envelope.SealError):
            envelope.unseal(KEY, bytes(changed))


def test_envelope_of_another_key_does_not_open() -> None:
    sealed = envelope.seal(envelope.new_data_key(KEY), b"Malee Tanaka")
    with pytest.raises(envelope.SealError, match="another key"):
        envelope.unseal(os.urandom(32), sealed)


def test_keyed_digest_separates_purposes() -> None:
    assert vault.keyed_digest("a", "value") != vault.keyed_digest("b", "value")
    assert vault.keyed_digest("a", "value") == vault.keyed_digest("a", "value")


@pytest.mark.django_db
def test_sealed_field_holds_no_plain_text_in_the_database() -> None:
    case = factories.case(factories.organisation(), name="Zebulon Quagga")
    with connection.cursor() as cursor:
        cursor.execute("SELECT details FROM compliance_subject")
        stored = bytes(cursor.fetchone()[0])
    assert b"Zebulon" not in stored
    case.subject.refresh_from_db()
    assert case.subject.details["name"] == "Zebulon Quagga"


def test_store_seals_and_names_by_ciphertext() -> None:
    digest = store.put(b"Malee Tanaka")
    assert store.get(digest) == b"Malee Tanaka"
    assert b"Malee" not in store.artefact_path(digest).read_bytes()
    assert store.put(b"Malee Tanaka") != digest


def test_store_refuses_a_changed_artefact() -> None:
    digest = store.put(b"Malee Tanaka")
    path = store.artefact_path(digest)
    path.write_bytes(path.read_bytes()[:-1] + b"\x00")
    with pytest.raises(store.StoreError, match="changed on disk"):
        store.get(digest)


def test_store_names_a_missing_artefact_without_a_path() -> None:
    with pytest.raises(store.StoreError, match="missing") as caught:
        store.get("0" * 64)
    assert str(settings.STORE_DIR) not in str(caught.value)


def test_dataset_is_sealed_and_named_by_its_plain_hash() -> None:
    digest = store.put_dataset(factories.PROFILE.encode())
    assert store.get_dataset(digest).decode() == factories.PROFILE
    assert b"Malee" not in store.dataset_path(digest).read_bytes()
