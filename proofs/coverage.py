"""Do the bounds hold as often as they say? Exhaustive binomial sums, then clustered answers.

    python -m proofs.coverage

A bound at 95 % must cover the true rate in at least 95 of 100 plans, whatever the rate. For single
answers that is summed exactly, for every count of hits, on a fine grid of rates and just above each
value that the bound can take, where coverage is least. Where prompts leak at different rates and
each is answered several times, plans are drawn; beside it stands the bound that takes all answers
as independent, which nobody should use there. No model is loaded. Figures in var/proofs.
"""

from __future__ import annotations

import itertools
import math
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch  # noqa: TID253 -- the proof draws numbers

from evaluation.bounds import clopper_pearson_lower, clopper_pearson_upper
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


def drawn(leaking: Leaking, prompts: int, draws: int) -> dict[str, Any]:
    """Return how often each bound covers, over plans with so many prompts and draws of each.

    by_prompt: the bound of risk.clustered_upper; independent: the bound that counts every answer by
    itself.
    """
    rate = leaking.draw(PLANS, prompts)
    hits = torch.binomial(torch.full_like(rate, draws), rate)
    leaks = hits.sum(dim=1).long().tolist()
    by_prompt = {k: clopper_pearson_upper(k / draws, prompts) for k in set(leaks)}
    plain = {k: clopper_pearson_upper(k, prompts * draws) for k in set(leaks)}
    single = leaking.answers
    return {
        "leaking": leaking.name,
        "prompts": prompts,
        "draws": draws,
        "rate_of_answers": single,
        "by_prompt": sum(by_prompt[k] >= single for k in leaks) / PLANS,
        "independent": sum(plain[k] >= single for k in leaks) / PLANS,
    }


def simulations() -> Iterator[dict[str, Any]]:
    """Yield each way to leak at each size."""
    torch.manual_seed(2026)
    for leaking, (prompts, draws) in itertools.product(LEAKING, ((60, 5), (150, 2), (299, 4))):
        yield drawn(leaking, prompts, draws)


def slack(coverage: float) -> float:
    """Return three standard errors of a share over PLANS plans."""
    return 3 * math.sqrt(coverage * (1 - coverage) / PLANS)


def tables(summed: Sequence[dict[str, Any]], simulated: Sequence[dict[str, Any]]) -> str:
    """Return both tables in Markdown and the worst of each."""
    lines = ["| probes | confidence | least coverage, upper | at rate | lower | at rate |",
             "|---:|---:|---:|---:|---:|---:|"]  # fmt: skip
    lines += [
        f"| {row['n']:,} | {row['confidence']:.0%} | {row['upper']:.6f} | {row['upper_at']:.4f}"
        f" | {row['lower']:.6f} | {row['lower_at']:.4f} |"
        for row in summed
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


def holds(summed: Sequence[dict[str, Any]], simulated: Sequence[dict[str, Any]]) -> bool:
    """Whether every bound covers as often as it says, simulations within three standard errors."""
    sums = all(
        row[side] >= row["confidence"] - ROUNDING for row in summed for side in ("upper", "lower")
    )
    return sums and all(row["by_prompt"] >= 0.95 - slack(0.95) for row in simulated)


def main() -> int:
    """Run the proof; 0 when all bounds hold."""
    summed = [exact(n, confidence) for confidence in CONFIDENCES for n in SIZES]
    simulated = list(simulations())
    held = holds(summed, simulated)
    keep("coverage", {"sums": summed, "plans": PLANS, "simulated": simulated, "held": held})
    sys.stdout.write(tables(summed, simulated))
    return 0 if held else 1


if __name__ == "__main__":
    sys.exit(main())
