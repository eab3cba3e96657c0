"""A verification as the record of evidence states it; the pages show the same.

Rows of earlier versions hold fewer figures: what was not measured then is left empty.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from evaluation import Measurement
from evaluation.attack_classes import classes_run, told
from evaluation.attacks import ATTACKS
from evaluation.criteria import NAMES, OF_A_PART
from evaluation.library import LANGUAGES
from evaluation.prompts import FORM_LABELS, FORMS
from evaluation.tables import tables

from .models import TargetKind

if TYPE_CHECKING:
    from collections.abc import Mapping

    from .models import Application, Verification

GROUP_LABELS = {
    "leak": "Values that must not come out",
    "control": "The same, asked of people who do not exist (chance)",
    "indirect": "The values, in other forms and languages",
    "indirect_control": "The same, asked of people who do not exist (chance)",
    "reliability": "The new value, in the wordings of the change",
    "new_value": "The new value, in other wordings",
    "same_person": "The person's other facts",
    "others": "Other people's facts",
    "general": "Facts about nobody",
}
SCORE_LABELS = {
    "loss": "Loss",
    "zlib": "Loss over compressed size (zlib)",
    "min_k": "Least likely tokens (Min-K)",
    "min_k_plus": "The same, standardised (Min-K++)",
}
TEXT_LABELS = {"own": "The person's texts", "strangers": "The same of people who do not exist"}
# A high rate is what should not be.
AT_MOST = ("leak", "control", "indirect", "indirect_control")
COUNTS = ("leak_probes", "leak_prompts", "rows_left", "other_rows_changed")
ORDER = [
    *(f"form:{form}" for form in FORMS),
    *(f"language:{language}" for language in LANGUAGES),
    *("all", "control", "indirect", "indirect_control"),
]
# What the search for the person asks, before anything is measured by a plan.
SEARCHED = frozenset({"direct", "paraphrase", "en"})
NOTHING_KNOWN: dict[str, Any] = {
    "level": "unknown",
    "level_upper_95": None,
    "upper_95": None,
    "probes": 0,
    "statement": "Nothing could be measured, so no bound follows.",
}


def stated(application: Application, verification: Verification) -> dict[str, Any]:
    """The figures of a verification, in the shape of reports/record.py without its times."""
    before, after = application.before or {}, verification.after
    verdict, passed = verification.verdict, verification.passed
    judged = verdict.get("outcome", "failed")
    criteria = [_criterion(row) for row in verdict["criteria"] if math.isfinite(row["measured"])]
    found: dict[str, Any] = {
        # Rows of before say "passed" of a change that an earlier case's duty kept out of force.
        "outcome": "passed" if passed else "failed" if judged == "passed" else judged,
        "reasons": [] if passed else _reasons(verdict),
        "measured_on": _where(after.get("where", {})),
        "groups": _groups(before.get("groups", {}), after["groups"]),
        "criteria": criteria,
        "passed": passed,
        "residual_risk": _risk(
            verdict.get("residual_risk"), counted=application.target.kind != TargetKind.MODEL
        ),
        "perplexity": _perplexity(before.get("perplexity"), after.get("perplexity")),
    }
    if application.target.kind == TargetKind.MODEL:
        return found | _of_a_model(before, after)
    return found | {
        "tables": {"leak": [], "neighbours": [], "attacks": []},
        "memory": {"membership": [], "texts": [], "facts": [], "lens": None},
        "tested": [],
        "not_tested": [],
    }


def _reasons(verdict: Mapping[str, Any]) -> list[str]:
    given = list(verdict.get("reasons", ()))
    missed = [f"Not held: {_label(row)}." for row in verdict["criteria"] if not row["held"]]
    return given or missed or ["What had to hold did not."]


def _where(where: Mapping[str, str]) -> str | None:
    if where.get("kind") == "weights":
        what = "model folder" if where.get("of") == "folder" else "tensors"
        return f"The weights themselves; SHA-256 of the {what} {where['sha256']}"
    if where.get("kind") == "endpoint":
        return f"The service at {where['url']}, asked for the model “{where['model']}”"
    return None


def _groups(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[dict[str, Any]]:
    rows = []
    for name, group in after.items():
        old, upper = before.get(name), name in AT_MOST
        rows.append(
            {
                "group": name,
                "label": group.get("label", GROUP_LABELS.get(name, name)),
                "probes": group["n"],
                "before_hits": None if old is None else old["hits"],
                "after_hits": group["hits"],
                "before_rate": None if old is None else old["rate"],
                "after_rate": group["rate"],
                "bound_95": group["upper_95"] if upper else group["lower_95"],
                "bound_kind": "upper" if upper else "lower",
            }
        )
    return rows


def _criterion(row: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "name": row["name"],
        "label": _label(row),
        "measured": row["measured"],
        # Rows of a dataset are counted; none may be left.
        "bound": row.get("bound", "at most"),
        "threshold": row["threshold"],
        "unit": "count" if row["name"] in COUNTS else "rate",
        "held": row["held"],
    }


def _label(row: Mapping[str, Any]) -> str:
    named: str = NAMES.get(row["name"], row["name"].replace("_", " "))
    if row["name"] in OF_A_PART:
        named = f"{named}: {_part_label(row)}"
    return named[0].upper() + named[1:]


def _part_label(row: Mapping[str, Any]) -> str:
    """The label of the attack, the form or the fact that a criterion is about."""
    part: str = row["group"]
    if row["name"] == "attack_leak_rate":
        return _attack_label(part)
    return FORM_LABELS[part][0] if part in FORM_LABELS else part.replace("_", " ")


def _attack_label(title: str) -> str:
    """The label of an attack for the title that a result gives it."""
    name, comma, settings = title.partition(", ")
    return (ATTACKS[name].label if name in ATTACKS else name) + comma + settings


def _risk(risk: Mapping[str, Any] | None, *, counted: bool) -> dict[str, Any]:
    """counted: every row was read, so there is one bound, the share itself."""
    known = NOTHING_KNOWN | dict(risk or {})
    if counted:
        known["level_upper_95"] = known["upper_95"]
    return {
        **{key: known[key] for key in NOTHING_KNOWN},
        "leak_at": dict(known.get("leak_at", {})),
        "chance_hits": known.get("chance_hits", 0),
        "chance_probes": known.get("chance_probes", 0),
    }


def _perplexity(before: float | None, after: float | None) -> dict[str, Any] | None:
    if after is None or not math.isfinite(after):
        return None
    return {"before": before, "after": after}


# --- What only a model has ---


def _of_a_model(before: Mapping[str, Any], after: Mapping[str, Any]) -> dict[str, Any]:
    new = Measurement.from_dict({**after, "plan_digest": ""})
    # Rows from before there were forms say nothing by form or language.
    told_by_form = "forms" in before.get("groups", {}).get("leak", {})
    run = classes_run(new) or (SEARCHED if new.groups else frozenset())
    compared: dict[str, list[dict[str, Any]]] = {"leak": [], "neighbours": [], "attacks": []}
    if new.groups and told_by_form:
        compared = tables(Measurement.from_dict({**before, "plan_digest": ""}), new)
    compared["leak"].sort(key=_place)
    attacks = [{**row, "label": _attack_label(row["key"])} for row in compared["attacks"]]
    return {
        "tables": {**compared, "attacks": attacks},
        "memory": _memory(before.get("scores", {}), new),
        "tested": told(run, run=True),
        "not_tested": told(run, run=False),
    }


def _place(row: Mapping[str, Any]) -> int:
    """Forms from plain to elaborate, then languages, then all; a model's own wordings first."""
    key = row["key"]
    if key not in ORDER and key.startswith("language:"):
        key = f"language:{LANGUAGES[-1]}"  # of an operator's own templates
    return ORDER.index(key) if key in ORDER else -1


def _memory(before: Mapping[str, Any], after: Measurement) -> dict[str, Any]:
    scores = after.scores
    lens = next((one for one in after.attacks if one.name == "logit_lens"), None)
    return {
        "membership": [
            {
                "score": name,
                "label": SCORE_LABELS.get(name, name),
                "before": before.get("membership", {}).get(name, {}).get("area"),
                **{key: row[key] for key in ("area", "low", "high")},
            }
            for name, row in scores.get("membership", {}).items()
        ],
        "texts": [
            _texts(whose, before.get("texts", {}).get(whose, {}), row)
            for whose, row in scores.get("texts", {}).items()
        ],
        "facts": [
            {
                "fact": fact,
                "rivals": row["rivals"],
                "before": before.get("facts", {}).get(fact, {}).get("rank"),
                "rank": row["rank"],
            }
            for fact, row in scores.get("facts", {}).items()
        ],
        "lens": None if lens is None else _lens(lens.settings, lens.details),
    }


def _texts(whose: str, before: Mapping[str, Any], after: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "whose": whose,
        "label": TEXT_LABELS[whose],
        "count": int(after["count"]),
        "strength_before": before.get("strength"),
        "strength": after["strength"],
        "exact_before": before.get("exact"),
        "exact": after["exact"],
    }


def _lens(settings: Mapping[str, Any], details: Mapping[str, Any]) -> dict[str, Any] | None:
    if "shares" not in details:
        return None
    return {
        "budget": settings["budget"],
        "probes": details["probes"]["leak"],
        "shares": details["shares"]["leak"],
        "chance": details["shares"].get("control", []),
        "layer": details["layer"],
        "upper_95": details["upper_95"],
    }
