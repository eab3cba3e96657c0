"""Prompts, subjects, targets and batches as users have them, with tokenizers of several kinds."""

from __future__ import annotations

import copy
import unicodedata
from functools import cache
from typing import TYPE_CHECKING, Any

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from editing import METHODS, EditRequest, edit
from editing.contexts import context_keys, contexts
from editing.requests import check_batch
from language_models import LanguageModel, LetheError, NotReached, RequestError
from language_models.checkpoint import state_digest
from language_models.generation import encode
from language_models.moments import Moment, second_moment
from language_models.positions import ROLES, encoded, fill
from language_models.tracing import Site
from tests.language_models.factories import SENTENCES, tiny_model
from tests.language_models.tokenizers import speaker

if TYPE_CHECKING:
    from collections.abc import Iterator

LAYER = 1
# Without and with <s>, with a space put first, with </s> put last and letters changed (NFKC).
KINDS = ("bytes", "bytes, <s>", "llama 2", "metaspace always", "unigram")
NAMES = (
    "Malee Tanaka", "Malee", "Tanaka", "Anna", "Anna Sato", "Anna Sato-Saito", "Østergård",
    "O'Hara", "Rene\u0301e", "มาลี ใจดี", "น้ำใจ", "田中まり", "田中", "か\u3099ぎ", "ນາງມາລີ", "ນ້ຳງື່ມ",
)  # fmt: skip
PROMPTS = (
    "{} was born in", "Q: Where was {} born? A:", "Told by {}", "Malee Tanaka and {} met in",
    "“{}”, born in", "({}) lives in ", "{}, {other}, was born in", "{other} is the child of {}",
    "{}'s home is", "Anna, not {}, works as", "{}は", "東京の{}は", "{} เกิดที่", "ที่{}", "ນາງ {} ເກີດຢູ່",
)  # fmt: skip
TARGETS = (
    "Kyoto", "Kyoto.", "a court clerk", "19870514", "Silver Tide Shipping.", "กรุงเทพ", "เทพ.",
    "東京。", "京都", "ວຽງຈັນ", "Saint-Étienne",
)  # fmt: skip
# Also where the name stands a second time, as other text.
REQUESTS = st.builds(
    lambda name, prompt, target, *more: EditRequest(
        name, prompt.replace("{other}", name), target, *more
    ),
    st.sampled_from(NAMES),
    st.sampled_from(PROMPTS),
    st.sampled_from(TARGETS),
    st.lists(st.sampled_from([p for p in PROMPTS if "{other}" not in p]), max_size=2).map(tuple),
    st.lists(st.sampled_from(["Anna Sato was born in", "田中まりは"]), max_size=2).map(tuple),
)
ANY_TEXT = st.text(max_size=6)


def _fits(requests: list[EditRequest]) -> bool:
    try:
        check_batch(requests)
    except RequestError:
        return False
    return True


BATCHES = st.lists(REQUESTS, min_size=1, max_size=6).filter(_fits)


@cache
def _known(kind: str) -> tuple[LanguageModel, Moment]:
    lm = tiny_model(tokenizer=speaker(kind).tokenizer)
    return lm, second_moment(lm, SENTENCES, LAYER)


def _config(method: str, moment: Moment | None = None, **changes: Any) -> Any:
    moments = {} if moment is None else {"moments": ((LAYER, moment),)}
    short = {"role": "last", "layer": LAYER, "prefixes": 0, "steps": 1, "unreached": "mark"}
    return METHODS[method].config(**{**short, **moments, **changes})


def _strings(value: Any) -> Iterator[str]:
    """All texts inside JSON values, keys too."""
    if isinstance(value, dict):
        yield from value
        value = list(value.values())
    if isinstance(value, list):
        for one in value:
            yield from _strings(one)
    if isinstance(value, str):
        yield value


def _assert_told_nothing(told: Any, requests: list[EditRequest]) -> None:
    private = [text for one in requests for text in (one.subject, one.prompt, one.target)]
    for text in _strings(told):
        for secret in private:
            assert secret not in text
            # A name or a value, also one of its words.
            assert not [w for w in secret.split() if w[0].isupper() and w != "A:" and w in text]


def _ends_with_name(lm: LanguageModel, wording: str, request: EditRequest) -> bool:
    """Whether at most one token comes after the name."""
    _, offsets = encoded(lm, fill(wording, request.subject))
    stop = wording.index("{}") + len(request.subject)
    return sum(end > stop and start >= stop for start, end in offsets) <= 1


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=30, deadline=None)
@given(request=REQUESTS, role=st.sampled_from(ROLES), lead_in=st.sampled_from(["", "Note: ", "。"]))
def test_edited_position_is_the_one_asked_for(
    kind: str, request: EditRequest, role: str, lead_in: str
) -> None:
    lm, _ = _known(kind)
    config = _config("rome", lead_ins=(lead_in,))

    if role == "between" and any(_ends_with_name(lm, one, request) for one in request.wordings):
        with pytest.raises(RequestError, match="no token for the role"):
            contexts(lm, request, config, Site(role, LAYER))
        return

    found = contexts(lm, request, config, Site(role, LAYER))

    seen = set()
    prompts = [before + wording for wording in request.wordings
               for before in dict.fromkeys(["", lead_in])]  # fmt: skip
    for prompt in prompts:
        ids, offsets = encoded(lm, fill(prompt, request.subject))
        row = next(n for n, one in enumerate(found.rows) if list(one[: found.starts[n]]) == ids)
        seen.add(row)
        first = prompt.index("{}")
        name = range(first, first + len(request.subject))
        start, end = offsets[found.positions[row]]
        if role == "last":
            assert found.positions[row] == found.starts[row] - 1
        elif role == "between":
            # The last of those between.
            assert found.positions[row] == found.starts[row] - 2
            assert start >= name.start + 1
        else:
            # In the name at "{}", not where it stands a second time; its last one is its end.
            assert start < name.stop
            assert end > name.start
            rest = [at for at, (low, _) in enumerate(offsets) if low >= name.stop]
            after = rest[0] if rest else len(ids)
            assert role != "subject_last" or found.positions[row] == after - 1
    assert seen == set(range(len(found.rows)))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("method", ["rome", "memit"])
@settings(max_examples=12, deadline=None)
@given(batch=BATCHES, role=st.sampled_from(["last", "subject_last"]), mark=st.booleans())
def test_batches_run_or_say_why_not_and_tell_nothing(
    kind: str, method: str, batch: list[EditRequest], role: str, mark: bool
) -> None:
    lm, moment = _known(kind)
    before = state_digest(lm.model)
    config = _config(method, moment, role=role, unreached="mark" if mark else "raise")

    try:
        result = edit(lm, batch, method, config)
    except NotReached as error:
        assert not mark
        _assert_told_nothing(str(error), batch)
    else:
        assert len(result.details["requests"]) == len(batch)
        _assert_told_nothing(result.details, batch)
        assert result.revert(lm) == before

    assert state_digest(lm.model) == before


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=25, deadline=None)
@given(
    subject=ANY_TEXT,
    left=ANY_TEXT,
    right=ANY_TEXT,
    target=ANY_TEXT,
    method=st.sampled_from(["rome", "memit"]),
    role=st.sampled_from(ROLES),
)
@example("Wª\x1e", "\x18y\x95®¢5*Ù", "", "©", "memit", "last")
def test_any_text_is_edited_or_refused_in_words(
    kind: str, subject: str, left: str, right: str, target: str, method: str, role: str
) -> None:
    lm, moment = _known(kind)
    before = state_digest(lm.model)

    try:
        request = EditRequest(subject, left + "{}" + right, target)
        result = edit(lm, [request], method, _config(method, moment, role=role))
    except LetheError:
        assert state_digest(lm.model) == before
    else:
        assert result.revert(lm) == before


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=15, deadline=None)
@given(
    batch=BATCHES,
    order=st.randoms(use_true_random=False),
    role=st.sampled_from(["last", "subject_last"]),
)
def test_keys_depend_on_neither_batch_nor_order_nor_padding(
    kind: str, batch: list[EditRequest], order: Any, role: str
) -> None:
    # Exact to the last digits, whatever the shapes of the batches.
    lm = LanguageModel(copy.deepcopy(_known(kind)[0].model).double(), speaker(kind).tokenizer)
    site = Site(role, LAYER)
    lead_ins = ["Note: ", "Records show it. ", "東京。"]
    mixed = list(range(len(batch)))
    order.shuffle(mixed)

    def keys(requests: list[EditRequest], lead_ins: list[str]) -> list[torch.Tensor]:
        config = _config("rome", lead_ins=tuple(lead_ins))
        return context_keys(lm, [contexts(lm, one, config, site) for one in requests], LAYER)

    alone = [keys([one], lead_ins)[0] for one in batch]
    # A request with paraphrases takes the lead-ins in turn, so only one without has them all.
    single = [n for n, one in enumerate(batch) if len(one.wordings) == 1]
    turned = {n: keys([batch[n]], lead_ins[::-1])[0] for n in single}
    together = keys([batch[n] for n in mixed], lead_ins)
    side = lm.tokenizer.padding_side
    lm.tokenizer.padding_side = "left" if side == "right" else "right"
    try:
        padded = keys(batch, lead_ins)
    finally:
        lm.tokenizer.padding_side = side

    for n, K in enumerate(alone):
        others = [together[mixed.index(n)], padded[n], *([turned[n]] if n in turned else [])]
        assert all(float((other - K).norm() / K.norm()) < 1e-6 for other in others)


@pytest.mark.parametrize("method", ["rome", "memit"])
@pytest.mark.parametrize("kind", KINDS)
def test_request_given_twice_is_one_fact(kind: str, method: str) -> None:
    request = EditRequest("Malee Tanaka", "{} was born in", "Kyoto.", ("Told by {}",))
    lm, moment = _known(kind)
    # Twice the weight needs fewer rounds; in one round the direction is the same.
    config = _config(method, moment, steps=5, rounds=1)
    made = []
    for count in (1, 2):
        result = edit(lm, [request] * count, method, config)
        (entry,) = result.delta.entries.values()
        made.append((entry.left @ entry.right, result.details["requests"]))
        result.revert(lm)

    (once, _), (twice, rows) = made
    assert rows[0]["loss"] == rows[1]["loss"]
    cosine = torch.nn.functional.cosine_similarity(once.flatten(), twice.flatten(), dim=0)
    assert float(cosine) > 0.99
    if method == "rome":
        assert float((once - twice).norm() / once.norm()) < 1e-6


CONFLICTS = [
    (("Anna", "{} was born in", "Kyoto"), ("Anna", "{} was born in", "Bangkok")),
    (("Anna", "{} was born in", "Kyoto"), ("Anna", "{} was born in ", "Kyoto.")),
    (("Anna", "{} Sato was", "Kyoto"), ("Anna Sato", "{} was", "Bangkok")),
    (("Rene\u0301e", "{} was", "Kyoto"), ("Ren\u00e9e", "{} was", "Bangkok")),
    (("Anna", "{} was", "Kyoto", ("Told by {}",)), ("Anna", "Told by {}", "Bangkok")),
]


@pytest.mark.parametrize(("one", "other"), CONFLICTS)
@pytest.mark.parametrize("method", METHODS)
def test_two_targets_after_one_prompt_are_refused_by_number(
    method: str, one: tuple[Any, ...], other: tuple[Any, ...]
) -> None:
    lm, _ = _known("bytes")
    before = state_digest(lm.model)
    batch = [EditRequest(*one), EditRequest("Malee", "{} lives in", "Kyoto"), EditRequest(*other)]

    with pytest.raises(RequestError) as caught:
        edit(lm, batch, method)

    assert str(caught.value) == (
        "Requests 1 and 3 ask for different targets after the same prompt. Keep one of them."
    )
    assert state_digest(lm.model) == before


@pytest.mark.parametrize(
    "batch",
    [
        [EditRequest("Anna", "{} was born in", "Kyoto"), EditRequest("Anna", "{} works as", "a")],
        [EditRequest("Anna", "{} was", "Kyoto"), EditRequest("Anna Sato", "{} was", "Bangkok")],
        [EditRequest("Anna", "{} was", "Rene\u0301"), EditRequest("Anna", "{} was", "Ren\u00e9")],
    ],
)
def test_several_facts_of_a_name_are_one_batch(batch: list[EditRequest]) -> None:
    lm, moment = _known("bytes, <s>")

    result = edit(lm, batch, "memit", _config("memit", moment))

    assert len(result.details["requests"]) == 2
    result.revert(lm)


@pytest.mark.parametrize("method", ["rome", "memit", "emmet", "alphaedit"])
def test_later_edit_of_the_same_prompt_wins(method: str) -> None:
    lm = tiny_model()
    settings = {"clamp": 300.0, "learning_rate": 0.5, "steps": 40, "moment_weight": 0.1,
                "moment_texts": SENTENCES, "unreached": "raise"}  # fmt: skip
    more = {"null_share": 0.6, "null_ridge": 0.1} if method == "alphaedit" else {}
    config = _config(method, **settings, **more)
    first, second = (EditRequest("Anna Sato", "{} works as", target) for target in ("was", "born"))

    made = edit(lm, [first], method, config)
    again = edit(lm, [second], method, config, memory=made.memory)

    assert again.details["requests"][0]["target_first"] == 1.0


@pytest.mark.parametrize("field", ["subject", "prompt", "target"])
def test_text_that_is_no_unicode_is_refused_and_not_quoted(field: str) -> None:
    lm, moment = _known("bytes")
    given = {"subject": "Anna", "prompt": "{} was", "target": "Kyoto"}
    request = EditRequest(**{**given, field: given[field] + "\ud800"})

    with pytest.raises(RequestError, match="half a character") as caught:
        edit(lm, [request], "memit", _config("memit", moment))

    assert caught.value.__suppress_context__
    assert "Anna" not in str(caught.value)


@pytest.mark.parametrize("kind", KINDS)
def test_prompts_are_read_as_generation_reads_them(kind: str) -> None:
    lm, _ = _known(kind)
    for name in NAMES:
        for target in TARGETS:
            request = EditRequest(name, "{} was born in", target)
            found = contexts(lm, request, _config("rome"), Site("last", LAYER))
            assert list(found.rows[0][: found.starts[0]]) == encode(lm, f"{name} was born in")
            text = lm.tokenizer.decode(found.rows[0][found.starts[0] :], skip_special_tokens=True)
            form = "NFKC" if kind == "unigram" else "NFC"
            if "<unk>" not in lm.tokenizer.convert_ids_to_tokens(found.rows[0]):
                assert unicodedata.normalize(form, text).strip() == unicodedata.normalize(
                    form, target
                )
