"""Put a plan to a model: free generation to the model's own stop, then look for the values.

torch comes in with the first measurement, so that plans and verdicts need no torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from evaluation.results import Measurement, summarise
from language_models.matching import contains
from language_models.progress import Progress, silent

if TYPE_CHECKING:
    from evaluation.plan import Plan, Probe
    from language_models.checkpoint import LanguageModel

# what decides the text of a probe: prompt, decoding, seed
Question = tuple[str, str, int]


def measure(lm: LanguageModel, plan: Plan, progress: Progress | None = None) -> Measurement:
    """Return the hits of every group of `plan` on the weights that `lm` has now."""
    from language_models.generation import generate

    report = progress or silent
    questions = list(dict.fromkeys(_question(probe) for probe in plan.probes))
    texts: dict[Question, str] = {}
    for decode, temperature in (("greedy", 0.0), ("sampled", plan.temperature)):
        chosen = [question for question in questions if question[1] == decode]
        written = generate(
            lm,
            [prompt for prompt, _, _ in chosen],
            max_new_tokens=plan.max_new_tokens,
            temperature=temperature,
            seed=[seed for _, _, seed in chosen],
            progress=_shifted(report, len(texts), len(questions)),
        )
        texts.update(zip(chosen, written, strict=True))
    return summarise(
        plan,
        (
            probe.id
            for probe in plan.probes
            if any(contains(texts[_question(probe)], value) for value in probe.expected)
        ),
    )


def _question(probe: Probe) -> Question:
    return (probe.prompt, probe.decode, probe.seed if probe.decode == "sampled" else 0)


def _shifted(report: Progress, start: int, total: int) -> Progress:
    return lambda _stage, done, _total: report("measure", start + done, total)
