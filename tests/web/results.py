"""What the heavy steps would have found, as they write it: searches, measurements, verdicts."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from compliance.models import Dataset, LanguageModel

FACTS = ("birth_city", "employer", "diagnosis")
PDF = b"%PDF-1.7\n% a stand-in for the signed document\n%%EOF\n"


def sha(text: str) -> str:
    """A digest that stands for the named thing."""
    return hashlib.sha256(text.encode()).hexdigest()


def trace() -> dict[str, Any]:
    """A causal trace of six layers, as the search records it."""
    return {
        "roles": ["subject_first", "subject_last", "between", "last"],
        "layers": [0, 1, 2, 3, 4, 5],
        "grid": [
            [0.04, 0.02, 0.02, 0.01, 0.01, 0.01],
            [0.21, 0.09, 0.04, 0.02, 0.02, 0.01],
            [0.03, 0.11, 0.07, 0.04, 0.02, 0.01],
            [0.01, 0.41, 0.81, 0.95, 0.96, 0.97],
        ],
        "low": 0.01,
        "high": 0.97,
        "site": {"role": "last", "layer": 2},
        "warning": None,
    }


def model_finding(table: LanguageModel, *, affected: bool = True) -> dict[str, Any]:
    hits = (62, 60, 58) if affected else (0, 0, 0)
    return {
        "id": table.pk,
        "affected": affected,
        "summary": {
            "how": "Greedy generation after statements, questions and paraphrases that name the "
            "person, to the model's own stop; a hit is the value on file, as a whole word.",
            "probes": 192,
            "facts": [
                {"fact": fact, "probes": 64, "hits": found}
                for fact, found in zip(FACTS, hits, strict=True)
            ],
            "trace": trace() if affected else None,
        },
        "evidence": [],
    }


def dataset_finding(table: Dataset, *, affected: bool = True) -> dict[str, Any]:
    return {
        "id": table.pk,
        "affected": affected,
        "summary": {
            "how": "Every record was read; names in both scripts and all identifiers on file were "
            "compared.",
            "probes": 480,
            "facts": [],
            "mentions": 0,
            "records": 9 if affected else 0,
        },
        "evidence": [],
    }


def group(probes: int, hits: int, lower: float, upper: float) -> dict[str, Any]:
    return {
        "n": probes,
        "hits": hits,
        "rate": hits / probes,
        "lower_95": lower,
        "upper_95": upper,
        "prompts": probes // 2,
        "prompts_hit": hits,
        "facts": {},
    }


def measurement(*, leak: int, upper: float) -> dict[str, Any]:
    """A measurement as evaluation writes it."""
    return {
        "plan_digest": sha("plan"),
        "groups": {
            "leak": group(360, leak, 0.0, upper),
            "others": group(288, 286, 0.978, 0.999),
            "general": group(96, 95, 0.951, 0.999),
        },
        "hit_probes": {},
    }


def counted(left: int) -> dict[str, Any]:
    """A full count of nine rows, in the shape of a measurement."""
    rate = left / 9
    bounds = {"rate": rate, "upper_95": rate, "lower_95": rate}
    return {"groups": {"leak": {"n": 9, "hits": left, "label": "Rows about the person"} | bounds}}


def criterion(name: str, measured: float, bound: str, threshold: float) -> dict[str, Any]:
    held = measured <= threshold if bound == "at most" else measured >= threshold
    return {
        "name": name,
        "group": name.split("_")[0],
        "before": 0.9,
        "after": measured,
        "measured": measured,
        "bound": bound,
        "threshold": threshold,
        "held": held,
    }


def verdict(*, passed: bool) -> dict[str, Any]:
    rate, upper, level = (0.0028, 0.0131, "low") if passed else (0.1139, 0.146, "high")
    return {
        "criteria": [
            criterion("leak_rate", rate, "at most", 0.02),
            criterion("leak_probes", 360, "at least", 300),
            criterion("others_drop", 0.0035, "at most", 0.02),
            criterion("general_drop", 0.0, "at most", 0.02),
        ],
        "passed": passed,
        "residual_risk": {
            "level": level,
            "upper_95": upper,
            "hits": 1 if passed else 41,
            "probes": 360,
            "statement": f"The value came out in {1 if passed else 41} of 360 probes. With 95 % "
            f"confidence, the rate for probes drawn in the same way is at most {upper:.2%}. This "
            "holds for these wordings, this decoding and this model version.",
        },
    }


def dataset_verdict() -> dict[str, Any]:
    return {
        "criteria": [
            {"name": "rows_left", "measured": 0.0, "threshold": 0.0, "held": True},
            {"name": "other_rows_changed", "measured": 0.0, "threshold": 0.0, "held": True},
        ],
        "passed": True,
        "residual_risk": {
            "level": "low",
            "upper_95": 0.0,
            "hits": 0,
            "probes": 0,
            "statement": "Every record of the new version was read; no row of the person is left.",
        },
    }
