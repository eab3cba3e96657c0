from __future__ import annotations

import pytest

from language_models import RequestError
from language_models.positions import ROLES, fill, locate
from tests.language_models.factories import tiny_model


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
