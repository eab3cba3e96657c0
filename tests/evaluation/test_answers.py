from __future__ import annotations

from typing import Any

import pytest

from evaluation.answers import Answer, Ask, Weights, is_answerer, messages, transcript
from language_models import RequestError, generate
from language_models.checkpoint import LanguageModel, state_digest
from language_models.errors import NoNumbers
from tests.language_models.factories import tiny_model

TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}{{ message['role'] }}: {{ message['content'] }}\n"
    "{% endfor %}{% if add_generation_prompt %}assistant:{% endif %}"
)
PROMPTS = ("Malee", "Records show that Anna", "The employer of Somchai Saito is")


def _written(lm: LanguageModel, prompt: str, **settings: Any) -> str:
    return generate(lm, [prompt], max_new_tokens=6, **settings)[0]


def test_weights_answer_in_the_order_asked_whatever_the_temperature_and_seed() -> None:
    lm = tiny_model(scale=1.0)
    asks = [
        Ask((PROMPTS[0],), temperature=1.0, seed=3),
        Ask((PROMPTS[1],)),
        Ask((PROMPTS[0],), temperature=1.0, seed=4),
        Ask((PROMPTS[2],), temperature=0.5, seed=3),
        Ask((PROMPTS[0],)),
    ]

    answers = Weights(lm).answer(asks, max_new_tokens=6)

    assert [answer.texts for answer in answers] == [
        (_written(lm, ask.turns[0], temperature=ask.temperature, seed=[ask.seed]),) for ask in asks
    ]
    assert answers[0] != answers[2]


def test_weights_put_the_second_turn_after_their_own_first_answer() -> None:
    lm = tiny_model()
    asks = [Ask((PROMPTS[0], "And then?", "And now?")), Ask((PROMPTS[1],))]
    first = _written(lm, PROMPTS[0])
    second = _written(lm, f"{PROMPTS[0]}{first}\nAnd then?")
    third = _written(lm, f"{PROMPTS[0]}{first}\nAnd then?{second}\nAnd now?")

    answers = Weights(lm).answer(asks, max_new_tokens=6)

    assert answers[0].texts == (first, second, third)
    assert answers[1].texts == (_written(lm, PROMPTS[1]),)


def test_weights_answer_a_chat_by_the_tokenizers_template_with_one_beginning() -> None:
    lm = tiny_model()
    lm.tokenizer.chat_template = TEMPLATE
    first = _written(lm, "user: Hi\nassistant:")

    answers = Weights(lm).answer([Ask(("Hi", "Who?"), chat=True)], max_new_tokens=6)

    dialogue = f"user: Hi\nassistant: {first}\nuser: Who?\nassistant:"
    assert answers[0].texts == (first, _written(lm, dialogue))


def test_weights_without_a_chat_template_refuse_a_chat() -> None:
    with pytest.raises(RequestError, match="no chat template"):
        Weights(tiny_model()).answer([Ask(("Hi",), chat=True)], max_new_tokens=2)


def test_weights_have_stopped_when_every_turn_ended_by_itself() -> None:
    lm = tiny_model()
    asks = [Ask((PROMPTS[0],)), Ask((PROMPTS[0], "And then?"))]
    before = Weights(lm).answer(asks, max_new_tokens=1)
    lm.model.generation_config.eos_token_id = lm.tokenizer(
        before[0].texts[0], add_special_tokens=False
    )["input_ids"]

    after = Weights(lm).answer(asks, max_new_tokens=1)

    assert [one.stopped for one in before] == [False, False]
    assert after[0] == Answer(("",), stopped=True)
    assert after[1].stopped == (after[1].texts == ("", ""))


def test_weights_with_broken_numbers_give_no_answer() -> None:
    lm = tiny_model()
    next(lm.model.parameters()).data.fill_(float("nan"))
    with pytest.raises(NoNumbers, match="not finite"):
        Weights(lm).answer([Ask(("Hi",))], max_new_tokens=2)


def test_weights_say_which_they_are_now() -> None:
    lm = tiny_model()
    asked = Weights(lm)
    before = asked.where

    next(lm.model.parameters()).data.add_(1.0)

    assert before == {"kind": "weights", "sha256": before["sha256"], "of": "tensors"}
    assert asked.where == {**before, "sha256": state_digest(lm.model)} != before


def test_weights_report_each_turn_as_a_step_and_refuse_empty_turns() -> None:
    weights = Weights(tiny_model(), batch_size=1)
    seen: list[tuple[str, int, int]] = []
    asks = [Ask(("a", "b")), Ask(("c",), temperature=1.0)]

    weights.answer(asks, max_new_tokens=1, progress=lambda *step: seen.append(step))

    assert seen == [("answer", 1, 3), ("answer", 2, 3), ("answer", 3, 3)]
    assert weights.answer([], max_new_tokens=1) == []
    for wrong in (Ask(()), Ask(("",)), Ask(("a",), temperature=-1.0)):
        with pytest.raises(RequestError):
            weights.answer([wrong], max_new_tokens=1)


def test_dialogues_have_one_stated_form() -> None:
    assert transcript(("a", "b"), ("1",)) == "a1\nb"
    assert messages(("a", "b"), ("1",)) == [
        {"role": "user", "content": "a"},
        {"role": "assistant", "content": "1"},
        {"role": "user", "content": "b"},
    ]


def test_a_model_is_no_answerer_but_its_weights_are() -> None:
    lm = tiny_model()
    assert not is_answerer(lm)
    assert is_answerer(Weights(lm))
