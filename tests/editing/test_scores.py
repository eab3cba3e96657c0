from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from editing import EditRequest
from editing.facts import Check, Fact, FactTest
from editing.scores import Examination, Scores, Share
from language_models.checkpoint import state_digest
from tests.language_models.factories import tiny_model

if TYPE_CHECKING:
    from language_models import LanguageModel

PROMPT, SUBJECT = "{} was born in", "Malee Tanaka"


def _asking(lm: LanguageModel, *facts: Fact) -> Examination:
    return Examination(lm, facts, max_new_tokens=1)


def _always(token: str, seed: int = 0) -> LanguageModel:
    """A model that answers every prompt with one token."""
    lm = tiny_model(seed=seed, tie_word_embeddings=False)
    (number,) = lm.tokenizer(token, add_special_tokens=False)["input_ids"]
    with torch.no_grad():
        # All states are zero, so all logits are equal; the bias of one token decides.
        lm.model.model.norm.weight.zero_()
        lm.model.lm_head.bias = torch.nn.Parameter(torch.zeros(len(lm.tokenizer)))
        lm.model.lm_head.bias[number] = 1
    return lm


def _fact(target: str = "was", **test: tuple[Check, ...]) -> Fact:
    return Fact(EditRequest(SUBJECT, PROMPT, target), FactTest(("Where was {} born? A:",), **test))


def test_scores_count_what_the_model_writes() -> None:
    others = (Check("Anna Sato was born in", "born"), Check("Sato was born in", "was"))
    fact = _fact("was", others=others, same_person=(Check("Malee works as"),))
    examination = _asking(_always(" born"), fact)

    before = examination.before()
    after = examination.scores(_always(" was"))

    assert before == Scores(
        Share(0, 1), Share(0, 1), Share(1, 2), Share(1, 1), Share(0, 0), Share(0, 2)
    )
    assert after == Scores(
        Share(1, 1), Share(1, 1), Share(1, 2), Share(0, 1), Share(0, 0), Share(2, 2)
    )


def test_check_without_a_value_keeps_the_unedited_answer() -> None:
    fact = _fact("as", general=(Check("Records show that"), Check("The employer of")))
    examination = _asking(_always(" born"), fact)

    assert examination.scores(_always(" born")).general == Share(2, 2)
    assert examination.scores(_always(" was")).general == Share(0, 2)


def test_interference_counts_no_answer_that_was_there_before() -> None:
    fact = _fact("born", others=(Check("Anna Sato was born in"),))
    examination = _asking(_always(" born"), fact)

    assert examination.scores(_always(" born")).interference == Share(0, 1)
    assert examination.scores(_always(" was")).interference == Share(0, 1)


def test_interference_sees_the_target_of_every_scored_fact() -> None:
    first = _fact("was", others=(Check("Anna Sato was born in"),))
    second = Fact(EditRequest("Somchai", "{} works as", "as"))
    examination = _asking(_always(" born"), first, second)
    edited = _always(" as")

    assert examination.scores(edited).interference == Share(1, 1)
    assert examination.scores(edited, [0]).interference == Share(0, 1)


def test_question_of_several_facts_is_counted_once() -> None:
    general = (Check("Records show that"),)
    second = Fact(EditRequest("Somchai", "{} works as", "as"), FactTest(general=general))

    assert _asking(
        _always(" born"), _fact("was", general=general), second
    ).before().general == Share(1, 1)


def test_prompt_of_an_edited_fact_is_no_prompt_to_keep() -> None:
    """Two people may each be the other's neighbour, and both be edited."""
    first = _fact("was", others=(Check("Somchai works as"), Check("Anna works as")))
    second = Fact(EditRequest("Somchai", "{} works as", "as"))

    assert _asking(_always(" born"), first, second).before().locality == Share(1, 1)


def test_scores_of_some_facts_ask_only_their_questions() -> None:
    facts = [_fact("was"), Fact(EditRequest("Somchai", "{} works as", "as"))]
    examination = _asking(_always(" born"), *facts)

    assert len(examination.ask(_always(" was"), [1])) == 1
    assert examination.scores(_always(" was"), [1]).reliability == Share(0, 1)
    assert examination.scores(_always(" was")).reliability == Share(1, 2)


def test_examination_leaves_the_model_as_it_is() -> None:
    lm = tiny_model()
    before = state_digest(lm.model)
    lm.model.train()

    _asking(lm, _fact()).scores(lm)

    assert state_digest(lm.model) == before
    assert lm.model.training


def test_shares_add_and_have_no_rate_without_questions() -> None:
    total = Scores(reliability=Share(1, 2)) + Scores(reliability=Share(1, 2))

    assert total.reliability == Share(2, 4)
    assert total.reliability.rate == 0.5
    assert total.as_dict()["general"] == {"hits": 0, "total": 0, "rate": None}
