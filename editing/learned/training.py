"""The training of an editor in two stages, so that no graph runs through the model twice.

Per step (MEND, algorithm 1; MALMEN, algorithm 1): draw facts, take the gradient factors of their
targets, let the network make ΔW without a graph; let the model act as W + ΔW and take
G = ∂L/∂ΔW of L = c_edit · loss of the targets + c_loc · KL(before ‖ after) on unrelated prompts;
then G goes back through the network alone. Everything drawn in a step comes from the seed and the
step's number, so training that was stopped and goes on ends in the same bits.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

import torch

from editing.gradient_factors import (
    Scored,
    gradient_factors,
    in_float32,
    log_chances,
    target_losses,
    tried,
)
from editing.learned.change import changes, projections_of, scored_rows
from editing.learned.data import split
from editing.learned.files import TrainedEditor, description, digests_of
from editing.learned.network import Design, Editor, Matrix
from language_models.architecture import parts
from language_models.generation import encode, generate
from language_models.methods import public_config
from language_models.replay import frozen

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from torch import Tensor

    from editing.learned.change import Rule
    from editing.learned.data import Example, TrainingData
    from editing.learned.settings import EditorTrainingConfig
    from language_models.architecture import Projection
    from language_models.checkpoint import LanguageModel

HELD_OUT_STREAM = -1
STATISTICS_STREAM = -2


@dataclass(frozen=True)
class Losses:
    """Means of a step: targets' loss and divergence in nats, share of wordings reached."""

    edit: float
    keep: float
    reached: float

    def total(self, config: EditorTrainingConfig) -> float:
        """The loss that training lowers."""
        return config.edit_weight * self.edit + config.keep_weight * self.keep


class Training:
    """The training of one editor; `step` and `check` are called in turn by `train`.

    done: steps made. curve: one row per check. best: the network at the lowest held-out loss.
    """

    def __init__(
        self, lm: LanguageModel, data: TrainingData, rule: Rule, config: EditorTrainingConfig
    ) -> None:
        self.rule, self.config, self.data = rule, with_layers(lm, config), data
        self.model = digests_of(lm)
        self.lm = in_float32(lm)
        self.seen, self.held = split(data.examples, config.held_out, config.seed)
        self.projections = projections_of(self.lm, self.config.layers, config.matrices)
        self.editor = Editor(self._design(), config.seed).to(lm.device)
        groups = self.editor.parameter_groups(config.rate, config.step_rate)
        self.adam = torch.optim.Adam(groups)
        self.rates = [config.rate, config.step_rate]
        self.answers = self._answers()
        self.done, self.curve = 0, list[dict[str, Any]]()
        self.best = self._copy()

    def begin(self) -> None:
        """Fill the normaliser and take the loss of the untrained editor."""
        drawn = self.draw(
            self.seen, self.config.statistics, _generator(self.config.seed, STATISTICS_STREAM)
        )
        self._take_in(self._factors(drawn))
        self.check()

    def step(self) -> Losses:
        """Make one step of Adam; return its losses."""
        self.done += 1
        generator = _generator(self.config.seed, self.done)
        self.adam.zero_grad(set_to_none=True)
        for _ in range(self.config.accumulate):
            facts = self.draw(self.seen, self._size(generator), generator)
            found = self._factors(facts)
            self._take_in(found)
            losses, gradients = self._losses(facts, found, generator, learning=True)
            for name, gradient in gradients.items():
                network, index = self.editor.at(name)
                self.rule.learn(network, found[name], index, gradient / self.config.accumulate)
        torch.nn.utils.clip_grad_norm_(self.editor.parameters(), self.config.clip)
        share = 0.5 * (1 + math.cos(math.pi * (self.done - 1) / self.config.steps))
        for group, rate in zip(self.adam.param_groups, self.rates, strict=True):
            group["lr"] = rate * share
        self.adam.step()
        return losses

    def check(self) -> dict[str, Any]:
        """Take the held-out loss, keep the network if it is the lowest, and return the row."""
        held = self._held_out()
        row = {"step": self.done, **asdict(held), "loss": held.total(self.config)}
        if not self.curve or row["loss"] < min(one["loss"] for one in self.curve):
            self.best = self._copy()
        self.curve.append(row)
        return row

    @property
    def finished(self) -> bool:
        """Whether all steps are made or the held-out loss stopped falling."""
        lowest = min(range(len(self.curve)), key=lambda index: self.curve[index]["loss"])
        waited = len(self.curve) - 1 - lowest
        return self.done >= self.config.steps or waited >= self.config.patience

    def result(self) -> TrainedEditor:
        """Return the editor at its lowest held-out loss."""
        editor = Editor(self.editor.design, self.config.seed).to(self.lm.device)
        editor.load_state_dict(self.best)
        told = description(
            self.rule.method, editor, public_config(self.config), self.model, self.data.digest
        )
        return TrainedEditor(editor, {**told, "curve": self.curve})

    def _design(self) -> Design:
        config = self.config
        return Design(
            tuple(Matrix(one.name, one.d_out, one.d_in) for one in self.projections),
            config.rank,
            config.network_layers,
            self.rule.scale_first,
            config.step,
            config.ridge if self.rule.ridge else None,
        )

    def _copy(self) -> dict[str, Tensor]:
        return {name: tensor.clone() for name, tensor in self.editor.state_dict().items()}

    def _answers(self) -> dict[str, Scored]:
        """Return per unrelated prompt the row of prompt and the model's own answer."""
        prompts = sorted({prompt for one in self.data.examples for prompt in one.unrelated})
        texts = [""] * len(prompts)
        if self.config.continuation:
            texts = generate(self.lm, prompts, max_new_tokens=self.config.continuation)
        rows = {}
        for prompt, text in zip(prompts, texts, strict=True):
            ids = encode(self.lm, prompt)
            own = self.lm.tokenizer(text, add_special_tokens=False)["input_ids"] if text else []
            rows[prompt] = Scored((*ids, *own), len(ids))
        return rows

    def _size(self, generator: torch.Generator) -> int:
        """Draw how many facts are edited at once: small batches as often as large ones."""
        drawn = float(torch.rand((), generator=generator, dtype=torch.float64))
        return min(self.config.edits, int(math.exp(drawn * math.log(self.config.edits + 1))))

    def draw(
        self, examples: Sequence[Example], size: int, generator: torch.Generator
    ) -> list[Example]:
        """Draw facts, each with its wordings in a new order, and no prompt with two targets."""
        drawn: list[Example] = []
        asked: set[str] = set()
        for index in torch.randperm(len(examples), generator=generator).tolist():
            one = examples[index]
            if len(drawn) < size and asked.isdisjoint(one.wordings):
                asked.update(one.wordings)
                drawn.append(replace(one, wordings=_shuffled(one.wordings, generator)))
        return drawn

    def _factors(self, facts: Sequence[Example]) -> dict[str, Any]:
        config = self.config
        rows = [
            row
            for fact in facts
            for row in scored_rows(self.lm, fact.wordings, fact.target, config.edit_wordings)
        ]
        return gradient_factors(
            self.lm,
            self.projections,
            rows,
            tokens=self.rule.tokens,
            rows_per_pass=config.rows_per_pass,
        )

    def _take_in(self, found: dict[str, Any]) -> None:
        for name, factors in found.items():
            network, _ = self.editor.at(name)
            network.normaliser.update(torch.cat([factors.keys, factors.gradients], dim=1))

    def _losses(
        self,
        facts: Sequence[Example],
        found: dict[str, Any],
        generator: torch.Generator,
        *,
        learning: bool,
    ) -> tuple[Losses, dict[str, Tensor]]:
        """Return the losses with the trial change, and when learning G = ∂L/∂ΔW per matrix."""
        config = self.config
        pairs = changes(self.editor, self.rule, found)
        trial = {
            one.name: (one, _product(*pairs[one.name], one.parameter).requires_grad_(learning))
            for one in self.projections
        }
        scored = facts[: config.scored]
        edits = [row for fact in scored for row in self._edit_rows(fact)]
        # What a fact of the same batch rewrites is not to stay.
        asked = {wording for fact in facts for wording in fact.wordings}
        keeps = [
            self.answers[prompt]
            for fact in scored
            for prompt in _shuffled(fact.unrelated, generator)[: config.unrelated]
            if prompt not in asked
        ]
        with frozen(self.lm), torch.set_grad_enabled(learning):
            edit, reached = self._edit_loss(trial, edits)
            keep = self._keep_loss(trial, keeps)
        gradients = {
            name: change.grad for name, (_, change) in trial.items() if change.grad is not None
        }
        return Losses(edit, keep, reached), gradients

    def _edit_rows(self, fact: Example) -> list[Scored]:
        """Return wordings for the loss: the last in the drawn order, which the edit saw least."""
        wordings = fact.wordings[-self.config.loss_wordings :]
        return scored_rows(self.lm, wordings, fact.target, len(wordings))

    def _edit_loss(
        self, trial: dict[str, tuple[Projection, Tensor]], rows: list[Scored]
    ) -> tuple[float, float]:
        loss, reached = 0.0, 0.0
        for batch in _chunks(rows, self.config.rows_per_pass):
            with tried(trial):
                losses, first = target_losses(self.lm, batch)
            self._backward(self.config.edit_weight * losses.sum() / len(rows))
            loss += float(losses.detach().sum()) / len(rows)
            reached += float(first.float().sum()) / len(rows)
        return loss, reached

    def _keep_loss(self, trial: dict[str, tuple[Projection, Tensor]], rows: list[Scored]) -> float:
        """Mean over rows and tokens of KL(before ‖ after) in nats."""
        loss = 0.0
        count = sum(len(row.ids) - row.start + 1 for row in rows)
        for batch in _chunks(rows, self.config.rows_per_pass):
            with torch.no_grad():
                before = log_chances(self.lm, batch)
            with tried(trial):
                after = log_chances(self.lm, batch)
            drift = (before.exp() * (before - after)).sum() / count
            self._backward(self.config.keep_weight * drift)
            loss += float(drift.detach())
        return loss

    def _backward(self, loss: Tensor) -> None:
        if loss.requires_grad:
            loss.backward()  # type: ignore[no-untyped-call]

    def _held_out(self) -> Losses:
        """Return the mean losses of held-out facts in batches of the sizes that training draws."""
        generator = _generator(self.config.seed, HELD_OUT_STREAM)
        facts = self.draw(self.held, self.config.held_out_facts, generator)
        rows: list[tuple[int, Losses]] = []
        while facts:
            batch = facts[: self._size(generator)]
            facts = facts[len(batch) :]
            found = self._factors(batch)
            rows.append((len(batch), self._losses(batch, found, generator, learning=False)[0]))
        total = sum(size for size, _ in rows)
        return Losses(
            sum(size * one.edit for size, one in rows) / total,
            sum(size * one.keep for size, one in rows) / total,
            sum(size * one.reached for size, one in rows) / total,
        )


def with_layers(lm: LanguageModel, config: EditorTrainingConfig) -> EditorTrainingConfig:
    """Return the config with its layers: those given, or the last ones, at most half of all."""
    if config.layers:
        return config
    total = len(parts(lm.model).blocks)
    count = max(1, min(config.layer_count, total // 2))
    return replace(config, layers=tuple(range(total - count, total)))


def train(
    training: Training,
    *,
    report: Callable[[Training, Losses | None], None] | None = None,
    keep: Callable[[Training], None] | None = None,
) -> TrainedEditor:
    """Train to the end; `report` is called after each step and check, `keep` after each check."""
    if not training.curve:
        training.begin()
    while not training.finished:
        losses = training.step()
        if (
            training.done % training.config.check_every == 0
            or training.done == training.config.steps
        ):
            training.check()
            if keep is not None:
                keep(training)
        if report is not None:
            report(training, losses)
    return training.result()


def _product(left: Tensor, right: Tensor, like: Tensor) -> Tensor:
    return (left @ right).to(like.dtype)


def _chunks(rows: list[Scored], size: int) -> list[list[Scored]]:
    return [rows[start : start + size] for start in range(0, len(rows), size)]


def _shuffled(texts: tuple[str, ...], generator: torch.Generator) -> tuple[str, ...]:
    return tuple(texts[index] for index in torch.randperm(len(texts), generator=generator))


def _generator(seed: int, stream: int) -> torch.Generator:
    """Return the random numbers of one stream; streams of one seed share none."""
    return torch.Generator().manual_seed((seed * 1_000_003 + stream) % 2**63)
