"""Do the bounds hold as often as they say? Exhaustive binomial sums, then clustered answers.

    python -m proofs.coverage

A bound at 95 % must cover the true rate in at least 95 of 100 plans, whatever the rate. For single
answers that is summed exactly, for every count of hits, on a fine grid of rates and just above each
value that the bound can take, where coverage is least; so is the bound on a rate less chance, on a
grid of both rates, beside the one that takes chance as known from its hits. Where prompts leak at
different rates and each is answered several times, all as often or not, plans are drawn and given
to risk.clustered_upper; beside it stands the bound that takes all answers as independent, which
nobody should use there. No model is loaded. Figures in var/proofs.
"""

from __future__ import annotations

import itertools
import math
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch  # noqa: TID253 -- the proof draws numbers

from evaluation.bounds import clopper_pearson_lower, clopper_pearson_upper, difference_upper
from evaluation.risk import clustered_upper
from proofs.installations import keep

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from torch import Tensor

SIZES = (10, 20, 30, 50, 59, 100, 150, 299, 500, 1000)
GRID = 500
CONFIDENCES = (0.95, 0.99)
# Sums of a thousand terms and sixty halvings are right to about this.
ROUNDING = 1e-9
PLANS = 20_000
# Probes and controls of other forms: the shipped policy, the library's defaults.
PAIRS = ((96, 48), (160, 80))
LESS_RATES = [0.005, 0.01, *(number / 40 for number in range(1, 40)), 0.99, 0.995]


def binomial(n: int, p: float) -> list[float]:
    """Return the chances of 0 to n hits at rate p, 0 < p < 1."""
    ahead, aside = math.log(p), math.log1p(-p)
    whole = math.lgamma(n + 1)
    return [
        math.exp(whole - math.lgamma(k + 1) - math.lgamma(n - k + 1) + k * ahead + (n - k) * aside)
        for k in range(n + 1)
    ]


def coverage(bounds: Sequence[float], n: int, p: float) -> float:
    """Return the chance that the upper bound of the hits is at least p; bounds: of 0 to n hits."""
    return math.fsum(
        chance for chance, bound in zip(binomial(n, p), bounds, strict=True) if bound >= p
    )


def rates(bounds: Sequence[float]) -> list[float]:
    """Return the grid, and the rates just above each bound, at which one more count misses."""
    edges = [math.nextafter(bound, 1) for bound in bounds if 0 < bound < 1]
    # Of many counts each tenth will do: their edges lie closer together than the grid.
    return [number / GRID for number in range(1, GRID)] + edges[:: max(1, len(edges) // 100)]


def exact(n: int, confidence: float) -> dict[str, Any]:
    """Return the least coverage of both bounds at this size, and at which rate."""
    upper = [clopper_pearson_upper(k, n, confidence) for k in range(n + 1)]
    # A lower bound of hits is one minus the upper bound of misses: both are summed alike.
    lower = [1 - clopper_pearson_lower(n - k, n, confidence) for k in range(n + 1)]
    row: dict[str, Any] = {"n": n, "confidence": confidence}
    for name, bounds in (("upper", upper), ("lower", lower)):
        least, rate = min((coverage(bounds, n, p), p) for p in rates(bounds))
        row[name] = least
        row[f"{name}_at"] = rate if name == "upper" else 1 - rate
    return row


def less_chance(n: int, m: int) -> dict[str, Any]:
    """Return the least coverage of a rate of n probes less that of m controls, and at which rates.

    known: the same of the bound that takes the share of hits of the controls for their rate.
    """
    hits = range(n + 1)
    sums = {
        "covered": torch.tensor(
            [[difference_upper((k, n), [(x, m)]) for x in range(m + 1)] for k in hits],
            dtype=torch.float64,
        ),
        "known": torch.tensor(
            [[clopper_pearson_upper(k, n) - x / m for x in range(m + 1)] for k in hits],
            dtype=torch.float64,
        ),
    }
    row: dict[str, Any] = {"n": n, "m": m, "covered": 1.0, "known": 1.0}
    for p, chance in itertools.product(LESS_RATES, LESS_RATES):
        both = torch.outer(_row(n, p), _row(m, chance))
        for name, bounds in sums.items():
            found = float(both[bounds >= p - chance].sum())
            if found < row[name]:
                row |= {name: found, f"{name}_at": (p, chance)}
    return row


def _row(n: int, p: float) -> Tensor:
    return torch.tensor(binomial(n, p), dtype=torch.float64)


@dataclass(frozen=True)
class Leaking:
    """How prompts leak: a share of them leaks at a rate of Beta(a, b), the others never."""

    name: str
    share: float
    a: float
    b: float

    def draw(self, plans: int, prompts: int) -> Tensor:
        """Return the rate of each prompt of each plan (plans, prompts)."""
        shape = (plans, prompts)
        rate = torch.distributions.Beta(self.a, self.b).sample(shape)
        return rate * (torch.rand(shape) < self.share)

    @property
    def answers(self) -> float:
        """The rate of leaking answers over all prompts."""
        return self.share * self.a / (self.a + self.b)


LEAKING = (
    Leaking("all prompts alike, about 1 %", 1.0, 100.0, 9900.0),
    Leaking("one prompt of fifty leaks nearly always", 0.02, 20.0, 1.0),
    Leaking("few leak often, most hardly (Beta 0.02, 0.98)", 1.0, 0.02, 0.98),
    Leaking("one of five leaks at any rate (Beta 1, 1)", 0.2, 1.0, 1.0),
    Leaking("half leak at 1 to 20 % (Beta 2, 18)", 0.5, 2.0, 18.0),
)


def answers_of(prompts: int, draws: Sequence[int]) -> Tensor:
    """Return how often each prompt is answered: so many draws in turn."""
    return torch.tensor([draws[number % len(draws)] for number in range(prompts)])


def drawn(leaking: Leaking, prompts: int, draws: Sequence[int]) -> dict[str, Any]:
    """Return how often each bound covers, over plans with so many prompts, drawn so often in turn.

    by_prompt: the bound of risk.clustered_upper; independent: the bound that counts every answer by
    itself.
    """
    rate = leaking.draw(PLANS, prompts)
    asked = answers_of(prompts, draws)
    hits = torch.binomial(asked.expand_as(rate).to(rate.dtype), rate).long()
    # Plans with the same sum of shares have the same bound: one of each is put to the function.
    whole = math.lcm(*draws)
    sums = (hits * (whole // asked)).sum(dim=1).tolist()
    by_prompt = {
        total: clustered_upper(_answers(plan, asked)).upper
        for total, plan in dict(zip(sums, hits.tolist(), strict=True)).items()
    }
    leaks = hits.sum(dim=1).tolist()
    plain = {k: clopper_pearson_upper(k, int(asked.sum())) for k in set(leaks)}
    single = leaking.answers
    return {
        "leaking": leaking.name,
        "prompts": prompts,
        "draws": " or ".join(map(str, draws)),
        "rate_of_answers": single,
        "by_prompt": sum(by_prompt[total] >= single for total in sums) / PLANS,
        "independent": sum(plain[k] >= single for k in leaks) / PLANS,
    }


def _answers(hits: Sequence[int], asked: Tensor) -> dict[object, list[bool]]:
    """Return a plan as risk.clustered_upper takes it: prompt -> whether each answer leaks."""
    return {
        number: [answer < leaking for answer in range(draws)]
        for number, (leaking, draws) in enumerate(zip(hits, asked.tolist(), strict=True))
    }


def simulations() -> Iterator[dict[str, Any]]:
    """Yield each way to leak at each size."""
    torch.manual_seed(2026)
    sizes = ((60, (5,)), (150, (2,)), (299, (4,)), (60, (1, 9)), (150, (1, 2, 3)), (84, (4, 3)))
    for leaking, (prompts, draws) in itertools.product(LEAKING, sizes):
        yield drawn(leaking, prompts, draws)


def slack(coverage: float) -> float:
    """Return three standard errors of a share over PLANS plans."""
    return 3 * math.sqrt(coverage * (1 - coverage) / PLANS)


def tables(
    summed: Sequence[dict[str, Any]],
    less: Sequence[dict[str, Any]],
    simulated: Sequence[dict[str, Any]],
) -> str:
    """Return all tables in Markdown and the worst of each."""
    lines = ["| probes | confidence | least coverage, upper | at rate | lower | at rate |",
             "|---:|---:|---:|---:|---:|---:|"]  # fmt: skip
    lines += [
        f"| {row['n']:,} | {row['confidence']:.0%} | {row['upper']:.6f} | {row['upper_at']:.4f}"
        f" | {row['lower']:.6f} | {row['lower_at']:.4f} |"
        for row in summed
    ]
    lines += ["", "| probes | controls | least coverage less chance | at rates | chance as known"
              " | at rates |",
              "|---:|---:|---:|---|---:|---|"]  # fmt: skip
    lines += [
        f"| {row['n']} | {row['m']} | {row['covered']:.4f} | {row['covered_at']}"
        f" | {row['known']:.4f} | {row['known_at']} |"
        for row in less
    ]
    lines += ["", "| prompts leak | prompts × answers | true rate | covered by prompt"
              " | if taken as independent |",
              "|---|---:|---:|---:|---:|"]  # fmt: skip
    lines += [
        f"| {row['leaking']} | {row['prompts']} × {row['draws']} | {row['rate_of_answers']:.2%}"
        f" | {row['by_prompt']:.2%} | {row['independent']:.2%} |"
        for row in simulated
    ]
    for confidence in CONFIDENCES:
        least = min(
            row[side] for row in summed if row["confidence"] == confidence
            for side in ("upper", "lower")
        )  # fmt: skip
        lines.append(f"\nworst by sums at {confidence:.0%}: {least:.9f}")
    worst = {side: min(row[side] for row in simulated) for side in ("by_prompt", "independent")}
    lines.append(
        f"worst by drawing at 95 %: {worst['by_prompt']:.2%} by prompt, {worst['independent']:.2%}"
        " where answers are taken as independent"
    )
    return "\n".join(lines) + "\n"


def holds(
    summed: Sequence[dict[str, Any]],
    less: Sequence[dict[str, Any]],
    simulated: Sequence[dict[str, Any]],
) -> bool:
    """Whether every bound covers as often as it says, simulations within three standard errors."""
    sums = all(
        row[side] >= row["confidence"] - ROUNDING for row in summed for side in ("upper", "lower")
    )
    differences = all(row["covered"] >= 0.95 - ROUNDING for row in less)
    return sums and differences and all(row["by_prompt"] >= 0.95 - slack(0.95) for row in simulated)


def main() -> int:
    """Run the proof; 0 when all bounds hold."""
    summed = [exact(n, confidence) for confidence in CONFIDENCES for n in SIZES]
    less = [less_chance(n, m) for n, m in PAIRS]
    simulated = list(simulations())
    held = holds(summed, less, simulated)
    figures = {"sums": summed, "less_chance": less, "plans": PLANS, "simulated": simulated}
    keep("coverage", {**figures, "held": held})
    sys.stdout.write(tables(summed, less, simulated))
    return 0 if held else 1


if __name__ == "__main__":
    sys.exit(main())
