"""TOFU's measures against golden values and enumeration; its files, made up and where they lie."""

from __future__ import annotations

import itertools
import json
import math
from fractions import Fraction
from typing import TYPE_CHECKING, Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from language_models import RequestError
from language_models.checkpoint import state_digest
from proofs import tofu
from proofs.tofu_data import AUTHORS, COMPARED, OF_EACH, Question, missing, split
from proofs.tofu_models import whole_and_retrained
from proofs.tofu_scores import (
    answers,
    chance,
    distance,
    forget_quality,
    log_truth_ratio,
    mean_losses,
    p_value,
    rouge_recall,
    truthful,
)
from tests.language_models.factories import tiny_model

if TYPE_CHECKING:
    from pathlib import Path

VALUES = st.lists(st.floats(-20, 20), min_size=1, max_size=15)


def test_p_value_is_the_published_one() -> None:
    # Llama-2-7b after fine-tuning against retain90, 300 questions each: D = .39667, p = 1.834e-21.
    assert p_value(Fraction(119, 300), 300) == pytest.approx(1.834e-21, rel=1e-3)
    assert float(Fraction(119, 300)) == pytest.approx(0.39667, abs=1e-5)


@pytest.mark.parametrize("size", [1, 2, 3, 4, 5])
def test_p_value_is_the_share_of_all_orders_with_such_a_gap(size: int) -> None:
    gaps = []
    for places in itertools.combinations(range(2 * size), size):
        others = [place for place in range(2 * size) if place not in places]
        gaps.append(distance([float(one) for one in places], [float(one) for one in others]))
    for h in range(size + 1):
        gap = Fraction(h, size)
        assert p_value(gap, size) == pytest.approx(sum(one >= gap for one in gaps) / len(gaps))


@given(VALUES, VALUES)
def test_gap_is_the_same_both_ways_and_for_turned_values(
    one: list[float], other: list[float]
) -> None:
    gap = distance(one, other)
    assert 0 <= gap <= 1
    assert gap == distance(other, one)
    # 1 / R has the logarithm -log R.
    assert gap == distance([-value for value in one], [-value for value in other])


@given(VALUES)
def test_a_model_is_not_told_from_itself(values: list[float]) -> None:
    assert forget_quality(values, values[::-1]) == 1.0


def test_gap_of_apart_samples_is_one_and_sizes_must_be_equal() -> None:
    apart = [float(one) for one in range(80)]
    assert distance(apart, [one + 100 for one in apart]) == 1
    assert forget_quality(apart, [one + 100 for one in apart]) == pytest.approx(
        2 / math.comb(160, 80)
    )
    with pytest.raises(ValueError, match="same questions"):
        forget_quality([1.0], [1.0, 2.0])


@pytest.mark.parametrize(
    ("reference", "text", "recall"),
    [
        ("Basil was born in Kuwait City.", "basil was born, in KUWAIT city", 1),
        ("one two three four", "four three two one", 1 / 4),
        ("one two three four", "one x three y four", 3 / 4),
        ("one two", "", 0),
        ("one one two", "one", 1 / 3),
        ("…", "…", 0),
    ],
)
def test_rouge_is_the_longest_common_subsequence_of_words(
    reference: str, text: str, recall: float
) -> None:
    assert rouge_recall(reference, text) == recall


@given(st.lists(st.sampled_from("abc"), max_size=7), st.lists(st.sampled_from("abc"), max_size=7))
def test_rouge_agrees_with_trying_every_subsequence(wanted: list[str], said: list[str]) -> None:
    def inside(words: tuple[str, ...]) -> bool:
        rest = iter(said)
        return all(word in rest for word in words)

    longest = max(
        len(words)
        for count in range(len(wanted) + 1)
        for words in itertools.combinations(wanted, count)
        if inside(words)
    )
    found = rouge_recall(" ".join(wanted), " ".join(said))
    assert found == (longest / len(wanted) if wanted else 0)


def test_truth_ratio_is_the_geometric_one() -> None:
    losses = (0.5, 1.0, 2.0, 3.0, 4.0)
    chances = [math.exp(-loss) for loss in losses]
    ratio = math.prod(chances[2:]) ** (1 / 3) / chances[1]
    assert math.exp(log_truth_ratio(losses)) == pytest.approx(ratio)
    assert truthful(log_truth_ratio(losses)) == pytest.approx(1 - ratio)
    assert (truthful(0.0), truthful(900.0), truthful(-900.0)) == (0, 0, 1)
    assert chance(losses, among=False) == pytest.approx(chances[0])
    among = chances[0] / (chances[0] + sum(chances[2:]))
    assert chance(losses, among=True) == pytest.approx(among)


def test_unlikely_answers_overflow_nothing() -> None:
    assert chance((5000.0, 1.0, 1.0), among=True) == pytest.approx(0)
    assert chance((5000.0, 1.0, 6000.0), among=True) == pytest.approx(1)


def test_mean_losses_come_in_the_order_of_the_texts() -> None:
    lm = tiny_model()
    texts = [
        ("Where was Anna Sato born?", "In Kyoto, Japan."),
        ("Q: Where?", "Bangkok"),
        ("A", "B"),
    ]
    alone = [mean_losses(lm, [text])[0] for text in texts]
    assert mean_losses(lm, texts) == pytest.approx(alone, rel=1e-4)
    asked = Question("", "Where was Anna Sato born?", "In Kyoto.", "Kyoto.", ("Oslo.", "Rome."))
    (found,) = answers(lm, [asked])
    told = [(asked.prompt, text) for text in ("In Kyoto.", "Kyoto.", "Oslo.", "Rome.")]
    assert list(found) == pytest.approx(mean_losses(lm, told), rel=1e-4)


def made_up(folder: Path) -> None:
    """Write files of TOFU's form, with questions that tell their own number."""
    whole = [
        {"question": f"What is the number of {number}?", "answer": f"It is {number}."}
        for number in range(AUTHORS * OF_EACH)
    ]
    wrong = {"paraphrased_answer": "The number.", "perturbed_answer": ["None.", "All."]}
    compared = COMPARED * OF_EACH
    world = [{"question": "Where is Oslo?", "answer": "Norway", "perturbed_answer": ["Chad"]}]
    files: dict[str, list[dict[str, Any]]] = {
        "full": whole,
        "retain_perturbed": [row | wrong for row in whole[:compared]],
        "forget10_perturbed": [row | wrong for row in whole[-compared:]],
        "real_authors_perturbed": world,
        "world_facts_perturbed": world,
    }
    for name, rows in files.items():
        text = "\n".join(json.dumps(row) for row in rows)
        (folder / f"{name}.json").write_text(text, encoding="utf-8")


@pytest.fixture
def tofu_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    made_up(tmp_path)
    monkeypatch.setenv("LETHE_TOFU", str(tmp_path))
    return tmp_path


@pytest.mark.usefixtures("tofu_folder")
@pytest.mark.parametrize(
    ("authors", "forget", "compared", "holdout"),
    [(40, 4, 20, 8), (2, 1, 1, 8), (200, 20, 20, 0), (200, 2, 20, 0), (195, 10, 20, 5)],
)
def test_authors_are_each_in_one_part(
    authors: int, forget: int, compared: int, holdout: int
) -> None:
    found = split(authors, forget)
    parts = [{one.group for one in part} for part in (found.forget, found.retain, found.holdout)]
    assert [len(part) for part in parts] == [forget, authors - forget, holdout]
    assert not set.intersection(parts[0], parts[1] | parts[2]) | (parts[1] & parts[2])
    assert found.forgotten == {f"author-{n}" for n in range(AUTHORS - forget, AUTHORS)}
    assert len(found.compared) == compared * OF_EACH / 4
    assert len({one.group for one in found.compared}) == compared
    assert all(one.wrong and one.restated for one in [*found.forget, *found.compared])


@pytest.mark.usefixtures("tofu_folder")
@pytest.mark.parametrize(("authors", "forget"), [(4, 0), (4, 4), (201, 4), (40, 21)])
def test_numbers_that_the_files_do_not_serve_are_refused(authors: int, forget: int) -> None:
    with pytest.raises(RequestError, match="authors more than that"):
        split(authors, forget)


def test_files_of_two_editions_are_refused(tofu_folder: Path) -> None:
    other = tofu_folder / "forget10_perturbed.json"
    lines = other.read_text(encoding="utf-8").splitlines()
    other.write_text("\n".join(lines[1:] + lines[:1]), encoding="utf-8")
    with pytest.raises(RequestError, match="one edition"):
        split(40, 4)


def test_command_says_that_tofu_is_not_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("LETHE_TOFU", str(tmp_path))
    monkeypatch.setattr("sys.argv", ["tofu"])
    assert tofu.main() == 0
    assert capsys.readouterr().out == missing() + "\n"
    assert "LETHE_TOFU" in missing()


@pytest.mark.skipif(torch.cuda.is_available(), reason="A GPU can take all authors.")
@pytest.mark.usefixtures("tofu_folder")
def test_all_authors_take_a_gpu(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["tofu", "--authors", "200"])
    with pytest.raises(SystemExit):
        tofu.main()
    assert "take a GPU" in capsys.readouterr().err


@pytest.mark.usefixtures("tofu_folder")
def test_numbers_that_cannot_be_are_told_before_anything_is_trained(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["tofu", "--authors", "4", "--forget", "4"])
    with pytest.raises(SystemExit):
        tofu.main()
    assert "authors more than that" in capsys.readouterr().err


@pytest.mark.usefixtures("tofu_folder")
def test_retrained_model_is_another_and_both_are_kept(tmp_path: Path) -> None:
    made: list[int] = []

    def note(_act: str, done: int, _of: int) -> None:
        made.append(done)

    folder = tmp_path / "models"
    first = whole_and_retrained(split(2, 1), folder, 1, note)
    steps = len(made)
    again = whole_and_retrained(split(2, 1), folder, 1, note)

    assert steps == len(made) == 2 * max(made)
    digests = [state_digest(lm.model) for lm in (*first, *again)]
    assert digests[:2] == digests[2:]
    assert len(set(digests)) == 2


def test_table_tells_settings_and_what_was_not_measured() -> None:
    run = {"config": {"learning_rate": 3e-4, "steps": 60}}
    scores = {
        "forget_quality": 1.834e-21, "utility": 0.5, "strength": 0.0, "exact": 0.25, "rouge": 0.3,
        "auc": {"loss": 0.51, "min_k": None},
    }  # fmt: skip
    rows = [
        {"method": "none", **scores},
        {"method": "npo", **run, **scores},
        {"method": "gradient_ascent", **run, "stopped": "collapse"},
    ]
    none, npo, ascent = tofu.table({"rows": rows}).splitlines()[2:]
    figures = "1.8e-21 | 0.500 | 0.000 | 0.250 | 0.300 | 0.510 | - |"
    assert none == f"| none | - | - | {figures}"
    assert npo == f"| npo | 0.0003 | 60 | {figures}"
    assert ascent == f"| gradient_ascent | 0.0003 | 60 |{' - |' * 7} stopped by the floor |"


@pytest.mark.parametrize("method", tofu.METHODS)
def test_every_method_has_settings_at_its_rate_and_above(method: str) -> None:
    own, thrice = (tofu.settings(method, 5, times) for times in tofu.RATES)
    assert thrice.learning_rate == pytest.approx(3 * own.learning_rate)
    assert own.learning_rate == tofu.METHODS[method].config().learning_rate


@pytest.mark.skipif(bool(missing()), reason=missing())
def test_where_tofu_lies_its_files_are_of_one_edition() -> None:
    found = split(200, 20)
    assert (len(found.retain), len(found.forget), len(found.compared)) == (3600, 400, 100)
    assert {name: len(part) for name, part in found.world.items()} == {
        "real_authors": 100,
        "world_facts": 117,
    }
