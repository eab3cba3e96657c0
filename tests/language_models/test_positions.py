from __future__ import annotations

import unicodedata

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tokenizers import normalizers

from language_models import RequestError
from language_models.generation import encode
from language_models.positions import ROLES, encoded, fill, locate, with_target
from tests.language_models.factories import tiny_model
from tests.language_models.tokenizers import KINDS, speaker


@pytest.mark.parametrize("prompt", ["{} was born in", "Q: Where was {} born? A:", "Told by {}"])
@pytest.mark.parametrize("subject", ["Malee Tanaka", "Østergård", "มาลี ใจดี", "A"])
def test_locate_covers_the_subject_and_gives_each_token_one_role(prompt: str, subject: str) -> None:
    lm = tiny_model()

    found = locate(lm, prompt, subject)

    inside = lm.tokenizer.decode(found.ids[found.start : found.end])
    assert inside.strip() == subject
    used = [index for role in ROLES for index in found.tokens(role)]
    assert sorted(used) == sorted(set(used))
    assert set(used) >= set(range(found.start, len(found.ids)))
    assert found.tokens("last") == [len(found.ids) - 1]


def test_locate_with_an_unknown_role_is_refused() -> None:
    with pytest.raises(RequestError, match="subject_first"):
        locate(tiny_model(), "{} said", "Malee").tokens("middle")


@pytest.mark.parametrize(("prompt", "subject"), [("no name", "A"), ("{} {}", "A"), ("{} x", " ")])
def test_fill_refuses_what_cannot_be_filled(prompt: str, subject: str) -> None:
    with pytest.raises(RequestError):
        fill(prompt, subject)


# Letters with marks that combine (Thai, Lao, Japanese), as names have them.
LETTERS = st.sampled_from(
    [
        *"AnSatoKyr'",
        "é",
        "e\u0301",
        "น้ำ",
        "ที่",
        "มา",
        "ลี",
        "東",
        "京",
        "か\u3099",
        "ぎ",
        "ນ້ຳ",
        "ມາ",
        "ລີ",
    ]
)
NAMES = st.lists(LETTERS, min_size=1, max_size=6).map("".join)
TEXTS = st.lists(st.one_of(LETTERS, st.just(" ")), max_size=8).map("".join)
KNOWN = sorted(KINDS)
NORMALISING = {
    "unigram": "NFKC",
    "metaspace first": "NFC",
    "metaspace always": "NFC",
    "metaspace never": "NFC",
}


def _same(kind: str, text: str) -> str:
    """A text as the tokenizer keeps it: some change letters to an equal form."""
    return unicodedata.normalize(NORMALISING[kind], text) if kind in NORMALISING else text


@pytest.mark.parametrize("kind", KNOWN)
@settings(max_examples=40, deadline=None)
@given(left=TEXTS, right=TEXTS, subject=NAMES)
def test_locate_takes_the_tokens_that_share_characters_with_the_subject(
    kind: str, left: str, right: str, subject: str
) -> None:
    lm = speaker(kind)
    # The subject stands earlier in the text, too.
    prompt = f"{subject} {left}{{}}{right}"
    place = range(len(subject) + 1 + len(left), 2 * len(subject) + 1 + len(left))

    found = locate(lm, prompt, subject)

    ids, offsets = encoded(lm, prompt.replace("{}", subject))
    assert found.ids == ids
    covered = {at for start, end in offsets[found.start : found.end] for at in range(start, end)}
    outside = offsets[: found.start] + offsets[found.end :]
    assert not any(start < place.stop and end > place.start for start, end in outside if end)
    # Where a letter and its mark become one character, no token stands for the mark.
    text = prompt.replace("{}", subject)
    marks = {at for at in place if unicodedata.combining(text[at])}
    assert covered >= set(place) - (marks if kind in NORMALISING else set())


@pytest.mark.parametrize("kind", KNOWN)
@pytest.mark.parametrize("subject", ["Anna Sato", "Zürich", "มาลี ใจดี", "田中", "ນາງມາລີ"])
def test_locate_at_the_start_leaves_the_tokenizers_own_marks_out(kind: str, subject: str) -> None:
    lm = speaker(kind)

    found = locate(lm, "{} was born", subject)

    first = lm.tokenizer.convert_ids_to_tokens(found.ids[found.start])
    assert first not in ("▁", "Ġ", "<s>")
    assert found.start <= 2
    assert found.tokens("last") == [len(found.ids) - 1]
    assert found.ids[-1] != lm.tokenizer.eos_token_id


@pytest.mark.parametrize("kind", KNOWN)
@settings(max_examples=60, deadline=None)
@given(prompt=st.builds("{}{}".format, NAMES, TEXTS), target=NAMES)
# Words and letters that the tokenizers merged across the border in training.
@example(prompt="Q: Where was Anna Sato born? A: ", target="Kyoto")
@example(prompt="Anna lives in Ky", target="oto")
@example(prompt="田中まりは東", target="京都")
@example(prompt="มาลี ใจดี เกิดที่กรุง", target="เทพ")
@example(prompt="An", target="na")
def test_with_target_keeps_the_prompts_ids_and_writes_the_target(
    kind: str, prompt: str, target: str
) -> None:
    lm = speaker(kind)

    ids, start = with_target(lm, prompt, target)

    assert ids[:start] == encode(lm, prompt)
    assert len(ids) > start
    assert lm.tokenizer.eos_token_id not in ids
    read = {"skip_special_tokens": True, "clean_up_tokenization_spaces": False}
    text = lm.tokenizer.decode(ids, **read)
    before = lm.tokenizer.decode(ids[:start], **read)
    assert text.startswith(before)
    assert text.endswith(_same(kind, target))
    assert not text.endswith(f"  {target}") or prompt.endswith("  ")


@pytest.mark.parametrize("kind", KNOWN)
@pytest.mark.parametrize(
    ("prompt", "target", "expected"),
    [
        ("Anna was born in", "Kyoto", "Anna was born in Kyoto"),
        ("Anna was born in ", "Kyoto", "Anna was born in Kyoto"),
        ("田中まりは", "東京", "田中まりは東京"),
        ("มาลีเกิดที่", "กรุงเทพ", "มาลีเกิดที่กรุงเทพ"),
        ("ນາງມາລີເກີດຢູ່", "ວຽງຈັນ", "ນາງມາລີເກີດຢູ່ວຽງຈັນ"),
        ("มาลีเกิดที่", "Kyoto", "มาลีเกิดที่ Kyoto"),
    ],
)
def test_with_target_puts_a_space_where_the_script_has_one(
    kind: str, prompt: str, target: str, expected: str
) -> None:
    lm = speaker(kind)

    ids, start = with_target(lm, prompt, target)

    assert lm.tokenizer.decode(ids, skip_special_tokens=True).strip() == _same(kind, expected)
    assert ids[:start] == encode(lm, prompt)


@pytest.mark.parametrize(
    ("prompt", "target", "space"),
    [
        ("出身地：", "東京", False),
        ("か\u3099", "東京", False),
        ("출생지는", "서울", True),
        ("は", "A", True),
    ],
)
def test_with_target_knows_the_marks_of_scripts_without_spaces(
    prompt: str, target: str, space: bool
) -> None:
    lm = speaker("bytes")

    ids, start = with_target(lm, prompt, target)

    assert lm.tokenizer.decode(ids[start:]) == (f" {target}" if space else target)


@pytest.mark.parametrize(("prompt", "target"), [("", "A"), ("A", " "), ("A", "")])
def test_with_target_refuses_what_is_empty(prompt: str, target: str) -> None:
    with pytest.raises(RequestError, match="at least one letter"):
        with_target(speaker("bytes"), prompt, target)


def test_locate_refuses_a_subject_that_the_tokenizer_drops() -> None:
    lm = speaker("bytes")
    lm.tokenizer.backend_tokenizer.normalizer = normalizers.Replace("\u00ad", "")

    with pytest.raises(RequestError, match="reads nothing"):
        locate(lm, "A {} b", "\u00ad")


def test_with_target_refuses_a_prompt_that_the_tokenizer_drops() -> None:
    lm = speaker("bytes")
    lm.tokenizer.backend_tokenizer.normalizer = normalizers.Replace("\u00ad", "")

    with pytest.raises(RequestError, match="reads nothing in a prompt"):
        with_target(lm, "\u00ad", "b")


@pytest.mark.parametrize("kind", KNOWN)
def test_with_target_that_starts_with_a_mark_joins_it_or_refuses(kind: str) -> None:
    lm = speaker(kind)

    if kind in NORMALISING:
        # Letter and mark become one character: no ids follow the prompt's own.
        with pytest.raises(RequestError, match="in another way"):
            with_target(lm, "か", "\u3099き")
    else:
        ids, start = with_target(lm, "か", "\u3099き")
        assert ids[:start] == encode(lm, "か")
        assert lm.tokenizer.decode(ids, skip_special_tokens=True).strip() == "か\u3099き"


@pytest.mark.parametrize("kind", KNOWN)
def test_encode_leaves_out_the_mark_that_ends_a_text(kind: str) -> None:
    lm = speaker(kind)

    assert encode(lm, "Anna was")[-1] != lm.tokenizer.eos_token_id
    assert (lm.tokenizer("Anna was")["input_ids"][-1] == 2) == (
        kind in ("bytes, <s> </s>", "metaspace never", "unigram")
    )
