"""The one-file verifier: published vectors, hostile texts, and its commands run without us."""

from __future__ import annotations

import ast
import base64
import contextlib
import hashlib
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from compliance import checkpoint
from reports import transparency_log as log
from tests.reports.logs import (
    DIGESTS,
    KEY,
    LEAVES,
    ORIGIN,
    OTHER_SEED,
    RECORD,
    SEED,
    VKEY,
    note,
    pdf,
    proof,
    proof_of_one,
    signed,
)

if TYPE_CHECKING:
    from collections.abc import Callable

SOURCE = Path(log.__file__)
ROOT = base64.b64encode(bytes(32)).decode()
# Verifier key and note of C2SP signed-note, section "Example".
C2SP_VKEY = "example.com/foo+530d903a+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k"
C2SP_NOTE = """\
This is an example message.

— example.com/foo Uw2QOkn8srV1yJGh2VYRlL1Tnagv1YEq6TfXppzi2ONncAlTgK7Ztg1ERYNZXsYjOBH3mFXmRKuwHjG1Yu72IneyaQM=
"""  # noqa: E501

# Roots over the first 0 to 8 of the eight leaves used by the Certificate Transparency projects.
CT_LEAVES = ["", "00", "10", "2021", "3031", "40414243", "5051525354555657"]
CT_LEAVES += ["606162636465666768696a6b6c6d6e6f"]
CT_ROOTS = [
    "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
]


def test_file_imports_only_the_standard_library_and_cryptography() -> None:
    found = set()
    for item in ast.walk(ast.parse(SOURCE.read_text())):
        if isinstance(item, ast.Import):
            found |= {alias.name.split(".")[0] for alias in item.names}
        elif isinstance(item, ast.ImportFrom):
            found.add(str(item.module).split(".")[0])
    assert found - set(sys.stdlib_module_names) == {"cryptography"}


def test_roots_are_those_published() -> None:
    digests = [log.leaf_hash(bytes.fromhex(item)) for item in CT_LEAVES]
    assert [log.tree_root(digests[:size]).hex() for size in range(9)] == CT_ROOTS


def test_published_note_is_signed_by_its_key_and_is_no_checkpoint() -> None:
    key = log.VerifierKey.parse(C2SP_VKEY)
    assert (key.name, key.key_id.hex()) == ("example.com/foo", "530d903a")
    with pytest.raises(log.ProofError, match="does not consist of origin, size and root"):
        log.open_checkpoint(C2SP_NOTE, key)
    with pytest.raises(log.ProofError, match="does not fit the note"):
        log.open_checkpoint(C2SP_NOTE.replace("example m", "Example m"), key)


def test_checkpoint_is_read_as_it_was_signed() -> None:
    assert log.open_checkpoint(note(5), KEY) == log.Checkpoint(
        ORIGIN, 5, log.tree_root(DIGESTS[:5])
    )
    assert log.open_checkpoint(note(0), KEY).root == hashlib.sha256().digest()


def test_new_key_signs_for_its_verifier_key() -> None:
    seed, vkey = checkpoint.new_key("other.example/log")
    text = checkpoint.sign(seed, "other.example/log", 3, bytes(32))
    assert log.open_checkpoint(text, log.VerifierKey.parse(vkey)).size == 3
    assert vkey == checkpoint.verifier_key(seed, "other.example/log")
    assert seed != checkpoint.new_key("other.example/log")[0]


@pytest.mark.parametrize("origin", ["", "a b", "a+b", "a\u00a0b", "a\nb", "a\x01b"])
def test_origin_that_cannot_be_a_key_name_is_an_error(origin: str) -> None:
    with pytest.raises(ValueError, match="no spaces and no plus"):
        checkpoint.new_key(origin)


@pytest.mark.parametrize(("size", "root"), [(-1, bytes(32)), (1, bytes(31))])
def test_checkpoint_that_nobody_would_accept_is_not_signed(size: int, root: bytes) -> None:
    with pytest.raises(ValueError, match="size from 0"):
        checkpoint.sign(SEED, ORIGIN, size, root)


def test_signatures_of_unknown_keys_are_ignored() -> None:
    same_name = note(5, OTHER_SEED).rpartition("\n\n")[2]
    same_id = f"— else.example {base64.b64encode(KEY.key_id + bytes(64)).decode()}\n"
    many = same_name + same_id + same_name * 16
    assert log.open_checkpoint(note(5) + many, KEY).size == 5
    with pytest.raises(log.ProofError, match="no signature of the known key"):
        log.open_checkpoint(note(5).rpartition("— ")[0] + many, KEY)


@pytest.mark.parametrize("length", [1, 63, 64, 65])
def test_bad_signature_of_the_known_key_is_refused_beside_a_good_one(length: int) -> None:
    bad = f"— {ORIGIN} {base64.b64encode(KEY.key_id + bytes(length)).decode()}\n"
    with pytest.raises(log.ProofError, match="does not fit the note"):
        log.open_checkpoint(note(5) + bad, KEY)


@pytest.mark.parametrize(
    "text",
    [
        f"{ORIGIN}\n5\n",
        f"{ORIGIN}\n05\n{ROOT}\n",
        f"{ORIGIN}\n+5\n{ROOT}\n",
        f"{ORIGIN}\n-5\n{ROOT}\n",
        f"{ORIGIN}\n٥\n{ROOT}\n",
        f"{ORIGIN}\n{'9' * 5000}\n{ROOT}\n",
        f"{ORIGIN}\n5 \n{ROOT}\n",
        f"{ORIGIN}\n5\n{ROOT[:-2]}B=\n",
        f"{ORIGIN}\n5\n{ROOT[:-1]}\n",
        f"{ORIGIN}\n5\n {ROOT}\n",
        f"{ORIGIN}\n5\n{base64.b64encode(bytes(31)).decode()}\n",
        f"{ORIGIN}\n5\n{ROOT}\n\nextension\n",
        f"\n5\n{ROOT}\n",
        f"else.example\n5\n{ROOT}\n",
        f"{ORIGIN}\n5\n{ROOT}\nnull \x00\n",
        f"{ORIGIN}\r\n5\r\n{ROOT}\r\n",
        f"{ORIGIN}\n5\n{ROOT}\n{'x' * log.MAX_NOTE}\n",
    ],
)
def test_signed_text_that_is_not_a_strict_checkpoint_is_refused(text: str) -> None:
    with pytest.raises(log.ProofError):
        log.open_checkpoint(signed(text), KEY)


def test_extension_lines_are_allowed() -> None:
    assert log.open_checkpoint(signed(f"{ORIGIN}\n5\n{ROOT}\nmore\n"), KEY).size == 5


@pytest.mark.parametrize(
    "change",
    [
        lambda text: text[:-1],
        lambda text: text + "\n",
        lambda text: text.replace("—", "-"),
        lambda text: text.replace("— ", "—  "),
        lambda text: text.replace("\n\n", "\n"),
        lambda text: text + "— else.example AAAAAA\n",
        lambda text: text + "— else.example AAAAAB==\n",
        lambda text: text + "— else.example AAAA\n",
        lambda text: text + "— else.example AAAAAA==\n",
        lambda text: text + "— else.example AAAAAAAAx",
        lambda text: text + "— else+example AAAAAAAA\n",
        lambda text: text + "— else.example\u00a0x AAAAAAAA\n",
        lambda text: text + "— else.\udc80 AAAAAAAA\n",
    ],
)
def test_note_that_is_not_strict_is_refused(change: Callable[[str], str]) -> None:
    with pytest.raises(log.ProofError):
        log.open_checkpoint(change(note(5)), KEY)


@pytest.mark.parametrize(
    "vkey",
    [
        "",
        VKEY.replace("log.", "lag."),
        VKEY.replace("+", " "),
        VKEY + "\n",
        VKEY.upper(),
        VKEY[:-4],
        f"a+{log.key_id('a', bytes(32)).hex()}+{base64.b64encode(bytes([2, *bytes(32)])).decode()}",
        "\udc80" + VKEY,
        "/" + VKEY,
    ],
)
def test_verifier_key_that_does_not_fit_is_refused(vkey: str) -> None:
    with pytest.raises(log.ProofError):
        log.VerifierKey.parse(vkey)


@pytest.mark.parametrize("size", range(1, 10))
def test_proof_gives_the_leaf_its_number_and_the_checkpoint(size: int) -> None:
    for index in range(size):
        found = log.open_proof(proof(index, size), KEY)
        assert found == (LEAVES[index], index, log.open_checkpoint(note(size), KEY))


@pytest.mark.parametrize(
    "change",
    [
        lambda text: text.replace("@v1", "@v2"),
        lambda text: text.replace("index 3", "index 03"),
        lambda text: text.replace("index 3", "index 4"),
        lambda text: text.replace("index 3", "index 3 "),
        lambda text: text.replace("extra ", "extra  "),
        lambda text: "\n".join(line for line in text.split("\n") if line[:6] != "extra "),
        lambda text: text.replace("\n\n", "\n", 1),
        lambda text: text.replace("\n\n", "\n\n\n", 1),
        lambda text: text.replace("\n\n", f"\n{ROOT}\n\n", 1),
        lambda text: text.replace(base64.b64encode(LEAVES[3]).decode(), "e30="),
        lambda text: text.replace(note(9), note(8)),
        lambda text: text.replace(note(9), note(9, OTHER_SEED)),
    ],
)
def test_changed_proof_is_refused(change: Callable[[str], str]) -> None:
    text = proof(3)
    assert change(text) != text
    with pytest.raises(log.ProofError):
        log.open_proof(change(text), KEY)


def test_proof_of_more_than_a_mebibyte_is_refused() -> None:
    largest = bytes(log.MAX_PROOF * 3 // 4 - 400)
    assert log.open_proof(proof_of_one(largest), KEY)[0] == largest
    with pytest.raises(log.ProofError, match="not a tlog-proof"):
        log.open_proof(proof_of_one(largest + bytes(400)), KEY)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (b'{"seq": 1}', "canonical"),
        (b'{"seq":1,"a":2}', "canonical"),
        (b'{"a":"\\u00e9","seq":1}', "canonical"),
        (b'{"seq":1,"seq":1}', "canonical"),
        (b'{"a":NaN,"seq":1}', "canonical"),
        (b'{"a":"\\ud800","seq":1}', "canonical"),
        (b'{"a":' + b"9" * 5000 + b',"seq":1}', "canonical"),
        (b'{"seq":1}\r', "canonical"),
        ('{"seq":1}'.encode("utf-16"), "canonical"),
        (b"[1]", "canonical"),
        (b"[" * 100_000, "canonical"),
        (b"", "canonical"),
        (b'{"seq":2}', "its number"),
        (b'{"seq":true}', "its number"),
        (b'{"seq":1.0}', "its number"),
        (b"{}", "its number"),
    ],
)
def test_leaf_that_is_not_canonical_or_not_its_number_is_named(wrong: bytes, message: str) -> None:
    log.check_leaves([b'{"seq":0}', b'{"seq":1}', b'{"seq":2}'])
    with pytest.raises(log.ProofError, match=f"^leaf 1 .*{message}"):
        log.check_leaves([b'{"seq":0}', wrong, wrong])


@pytest.mark.parametrize("deflate", [True, False])
def test_streams_of_a_pdf_are_found_without_a_pdf_library(deflate: bool) -> None:
    streams = [RECORD, proof(7).encode(), b"x stream\ny"]
    assert log.attachments(pdf(*streams, deflate=deflate)) == streams
    assert log.attachments(pdf(RECORD)[:-30]) == []


def test_more_than_64_mebibytes_are_not_inflated() -> None:
    half = bytes(32 << 20)
    assert [len(item) for item in log.attachments(pdf(half, half))] == [32 << 20] * 2
    with pytest.raises(log.ProofError, match="inflate to more than 67108864 bytes"):
        log.attachments(pdf(half, half, b"x"))


MUTABLE = [note(9).encode(), proof(7).encode(), pdf(RECORD, proof(7).encode()), b"\n".join(LEAVES)]
HOSTILE = st.one_of(
    st.binary(max_size=200),
    st.text(alphabet='—+ =\n{}"AZaz09/\x00\udc80é', max_size=80).map(
        lambda text: text.encode(errors="surrogateescape")
    ),
    st.builds(
        lambda data, at, put, cut: data[: at % len(data)] + put + data[at % len(data) + cut :],
        st.sampled_from(MUTABLE),
        st.integers(0, 5000),
        st.binary(max_size=6),
        st.integers(0, 40),
    ),
)


@settings(max_examples=400, deadline=None)
@given(data=HOSTILE)
def test_hostile_bytes_raise_nothing_but_proof_errors(data: bytes) -> None:
    text = data.decode(errors="surrogateescape")
    for attempt in (
        lambda: log.VerifierKey.parse(text),
        lambda: log.open_checkpoint(text, KEY),
        lambda: log.open_checkpoint(signed(text.encode(errors="replace").decode()), KEY),
        lambda: log.open_proof(text, KEY),
        lambda: log.check_leaves([data]),
        lambda: log.attachments(data),
        lambda: log.check_log(data, [data, note(9).encode()], KEY),
        lambda: log.check_pdf(data, KEY),
        lambda: log.check_consistency(note(5).encode(), note(9).encode(), data, KEY),
    ):
        with contextlib.suppress(log.ProofError):
            attempt()
