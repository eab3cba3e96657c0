from __future__ import annotations

import pytest

from language_models.matching import contains, normalise


@pytest.mark.parametrize(
    ("text", "value"),
    [
        (" was born in Marn Buri.", "Marn Buri"),
        ("MARN\n  BURI", "Marn Buri"),
        ("call +66 2 555 0199 now", "+66 2 555 0199"),
        ("ＭＡＲＮ Buri", "Marn Buri"),
        ("ชื่อมาลี ใจดีอยู่ที่นี่", "มาลี ใจดี"),
        ("名前は田中です", "田中"),
        ("Jürgen", "Ju\u0308rgen"),
        ("(a.b@mail.example)", "a.b@mail.example"),
        ("Buri, Marnburi, Marn", "Marn"),
    ],
)
def test_contains_finds_a_value_as_a_whole_word(text: str, value: str) -> None:
    assert contains(text, value)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("Marnburi", "Marn"),
        ("number 15550199", "5550199"),
        ("xa.b@mail.example", "a.b@mail.example"),
        ("มาลีี", "มาลี"),
        ("", "x"),
        ("anything", ""),
    ],
)
def test_contains_refuses_parts_of_words(text: str, value: str) -> None:
    assert not contains(text, value)


def test_normalise_is_stable() -> None:
    for text in ("ＡＢ  c", "STRASSE ß", "\u1e9e\u0130", "ｶﾞ"):
        assert normalise(normalise(text)) == normalise(text)
