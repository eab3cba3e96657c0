"""What forgetting 1, 10 and 50 people costs with sharded adapters, against the formula.

    python -m proofs.shard_costs [--draws 60]

Plans of the real code (recipes, addresses, steps) for 640 people in 16 shards of 4 slices, with
keys and requests drawn anew each time; a plan says which stages are trained again and how many
records they see, so nothing needs to be trained. Leaves a table and a plot.
"""

from __future__ import annotations

import argparse
import random
import sys
from typing import TYPE_CHECKING

from language_models.adapters import matrices
from proofs.installations import ROOT, keep
from tests.language_models.factories import tiny_model
from unlearning.manifest import Stage
from unlearning.records import Record
from unlearning.sharded_training import Shards, ShardsConfig, cost
from unlearning.shards import share_retrained

if TYPE_CHECKING:
    from unlearning.sharded_training import Planned

PEOPLE, EACH = 640, 2
CONFIG = ShardsConfig(shards=16, slices=4, epochs=2.5)
REQUESTS = (1, 10, 50)


def in_force(plan: list[Planned]) -> list[Stage]:
    """Return the stages that a plan leaves, without their weights."""
    return [
        Stage(one.recipe.shard, one.recipe.slice, one.recipe.address, "", one.recipe.environment,
              len(one.recipe.records), one.seen)
        for one in plan
    ]  # fmt: skip


def shares(draws: int) -> dict[int, float]:
    """Return per number of requests the mean share of the training that is made again."""
    lm = tiny_model(num_hidden_layers=1)
    places = matrices(lm, ())
    rng = random.Random(7)  # noqa: S311 -- seeded sampling
    records = [Record(f"{person}-{n}", str(person), "-")
               for person in range(PEOPLE) for n in range(EACH)]  # fmt: skip
    rows = {one.id: [1, 2] for one in records}
    total = dict.fromkeys(REQUESTS, 0.0)
    for _ in range(draws):
        shards = Shards(lm, "", places, CONFIG, rng.randbytes(32))
        before = in_force(shards.plan(records, rows, ()))
        for count in REQUESTS:
            # One person's share varies more from request to request than that of many.
            times = max(1, 20 // count)
            for _ in range(times):
                asked = {str(one) for one in rng.sample(range(PEOPLE), count)}
                left = [one for one in records if one.subject not in asked]
                share = cost(shards.plan(left, rows, before))["share_trained"]
                total[count] += share / times / draws
    return total


def plot(measured: dict[int, float]) -> str:
    """Return the formula as a line and what was measured as points, as SVG."""
    most = max(measured)

    def at(count: float, share: float) -> tuple[float, float]:
        return 50 + 400 * count / most, 250 - 220 * share

    line = [at(n, share_retrained(n, CONFIG.shards, CONFIG.slices)) for n in range(most + 1)]
    marks = "".join(
        '<circle cx="{:.1f}" cy="{:.1f}" r="4"/>'.format(*at(n, share))
        for n, share in measured.items()
    )
    ticks = "".join(
        f'<text x="{at(n, 0)[0]:.0f}" y="268" text-anchor="middle">{n}</text>' for n in measured
    ) + "".join(
        f'<text x="44" y="{at(0, n / 100)[1] + 4:.0f}" text-anchor="end">{n} %</text>'
        for n in (0, 50, 100)
    )
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y in line)
    return (
        '<svg xmlns="http://www.w3.org/2000/svg" width="480" height="300" font-family="sans-serif"'
        ' font-size="12"><path d="M50 20V250H460" fill="none" stroke="#888"/>'
        f'<polyline points="{path}" fill="none" stroke="#06c"/>{marks}{ticks}'
        '<text x="250" y="288" text-anchor="middle">people taken out at once (line: formula,'
        " points: measured share of the training)</text></svg>\n"
    )


def main() -> int:
    """Measure, print the table, keep it and the plot."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--draws", type=int, default=60)
    measured = shares(parser.parse_args().draws)
    table = {
        str(count): {"measured": share, "formula": share_retrained(count, 16, 4)}
        for count, share in measured.items()
    }
    for count, row in table.items():
        sys.stdout.write(f"{count:>3}: {row['measured']:.1%}, formula {row['formula']:.1%}\n")
    keep("shard_costs", {"shards": 16, "slices": 4, "people": PEOPLE, "share": table})
    (ROOT / "var/proofs/shard_costs.svg").write_text(plot(measured), encoding="utf-8")
    close = all(abs(row["measured"] / row["formula"] - 1) <= 0.1 for row in table.values())
    return 0 if close else 1


if __name__ == "__main__":
    sys.exit(main())
