"""Heavy steps on models: find what one gives out, change it, measure the change. No Django."""

from __future__ import annotations

import base64
import platform
import time
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any

from evaluation import Measurement, Person, Plan, compare, measure, probe
from evaluation.resurfacing import Rerun, open_duty, rerun

from .envelope import DataKey, seal

if TYPE_CHECKING:
    from language_models.checkpoint import LanguageModel

Report = Callable[[str, int, int], None]


# --- Find ---


def find(request: dict[str, Any], report: Report) -> dict[str, Any]:
    """Search the datasets and probe the models for one person."""
    from .heavy_datasets import search

    datasets = [search(entry, request["person"], request["named"]) for entry in request["datasets"]]
    models = [_probe_model(entry, request, report) for entry in request["models"]]
    return {"models": models, "datasets": datasets}


def _probe_model(entry: dict[str, Any], request: dict[str, Any], report: Report) -> dict[str, Any]:
    from language_models import load

    report("Loading the model", 0, 1)
    lm = load(entry["path"])
    person, wordings = request["person"], entry["wordings"]
    asked = {
        fact: value
        for fact, value in person["facts"].items()
        if fact in request["facts"] and fact in wordings
    }
    how = (
        "Greedy generation after statements, questions and paraphrases that name the person, to "
        "the model's own stop; a hit is the value on file, as a whole word."
    )
    if not asked:
        return _nothing_on_file(lm, entry, request, report)
    findings = probe(
        lm,
        Person(person["id"], person["name"], asked),
        {fact: wordings[fact]["change"] for fact in asked},
        lead_ins=wordings["lead_ins"]["change"][:2],
        max_new_tokens=request["max_new_tokens"],
        progress=_staged(report, "Asking the model"),
    )
    hits = sum(finding.hits for finding in findings)
    trace = _trace(lm, person["name"], asked, wordings, report) if hits else None
    return {
        "id": entry["id"],
        "affected": hits > 0,
        "summary": {
            "how": how,
            "probes": sum(finding.prompts for finding in findings),
            "facts": [{"fact": f.fact, "probes": f.prompts, "hits": f.hits} for f in findings],
            "trace": trace,
        },
        "evidence": [finding.as_dict() for finding in findings],
    }


def _nothing_on_file(
    lm: LanguageModel, entry: dict[str, Any], request: dict[str, Any], report: Report
) -> dict[str, Any]:
    """Nobody of that name on file: look for the contact the person gave in what the model says."""
    from language_models import generate
    from language_models.matching import contains

    wordings = entry["wordings"]
    prompts = [
        wording.format(request["person"]["name"])
        for fact in request["facts"]
        if fact in wordings
        for wording in wordings[fact]["change"]
    ]
    texts = generate(
        lm,
        prompts,
        max_new_tokens=request["max_new_tokens"],
        progress=_staged(report, "Asking the model"),
    )
    hits = sum(contains(text, request["person"]["contact"]) for text in texts)
    return {
        "id": entry["id"],
        # Without values on file there is nothing a change could be measured by.
        "affected": False,
        "summary": {
            "how": (
                "No value of the kind asked for is on file to compare with. The model "
                "was asked for every kind of fact under the name; its answers were searched for "
                "the contact address that was given."
            ),
            "probes": len(prompts),
            "facts": [{"fact": "contact", "probes": len(prompts), "hits": hits}],
            "trace": None,
        },
        "evidence": [],
    }


def _trace(
    lm: LanguageModel,
    name: str,
    facts: dict[str, str],
    wordings: dict[str, Any],
    report: Report,
) -> dict[str, Any]:
    from editing.located import TRACED_WORDINGS
    from language_models.tracing import TraceCase, trace

    report("Tracing where the facts are", 0, 1)
    # The statements that an edit would trace, so that both find the same site.
    fact = next(iter(facts))
    cases = [
        TraceCase(subject=name, prompt=wording)
        for wording in wordings[fact]["change"][:TRACED_WORDINGS]
    ]
    return trace_record(trace(lm, cases, seed=0).as_dict())


def trace_record(found: dict[str, Any]) -> dict[str, Any]:
    """A trace in the shape of reports/record.py: roles that occur, one row each."""
    grid = {role: row for role, row in found["grid"].items() if row is not None}
    return {
        "roles": list(grid),
        "layers": list(range(len(grid[found["site"]["role"]]))),
        "grid": list(grid.values()),
        "low": found["low"],
        "high": found["high"],
        "site": found["site"],
        "warning": found["warning"],
    }


# --- Apply ---


def apply(request: dict[str, Any], report: Report) -> dict[str, Any]:
    """Measure before, change, keep the changed model and the sealed delta, prove the way back."""
    from evaluation.attacks.again import check
    from language_models import load, save
    from language_models.checkpoint import state_digest

    plan = Plan.from_dict(request["plan"])
    # Before anything is changed, and here, where the packages of attacks must be.
    check(plan.attacks)
    report("Loading the model", 0, 1)
    lm = load(request["path"])
    hash_before = state_digest(lm.model)
    before = measure(lm, plan, _staged(report, "Measuring before"), attacks=False)
    started = time.monotonic()
    change = _edit if request["method"] == "rome" else _unlearn
    changed = change(lm, request, report)
    hash_after = state_digest(lm.model)
    seconds = time.monotonic() - started
    checkpoint = save(lm, request["folder"])
    hash_reverted = changed.delta.revert(lm)
    key = DataKey(request["seal"]["id"], base64.b64decode(request["seal"]["key"]))
    delta = Path(request["folder"]).with_suffix(".delta")
    delta.write_bytes(seal(key, changed.delta.to_bytes()))
    return {
        "before": _unnamed(before),
        "digest": checkpoint.digest,
        "folder": str(request["folder"]),
        "delta": str(delta),
        "hash_before": hash_before,
        "hash_after": hash_after,
        "hash_reverted": hash_reverted,
        "details": changed.details,
        "seconds": round(seconds, 2),
        "software": _software(),
    }


def _edit(lm: LanguageModel, request: dict[str, Any], report: Report) -> Any:
    from editing import EditRequest, edit
    from editing.rome import RomeConfig

    wordings, person = request["wordings"], request["person"]
    requests = [
        EditRequest(
            subject=person["name"],
            prompt=wordings[fact]["change"][0],
            # The full stop ends the value as the training texts do.
            target=f"{target}.",
            paraphrases=tuple(wordings[fact]["change"][1:]),
            neighbours=tuple(request["neighbours"]),
        )
        for fact, target in request["changes"].items()
    ]
    config = RomeConfig(lead_ins=tuple(wordings["lead_ins"]["change"]))
    return edit(lm, requests, config=config, progress=_staged(report, "Editing the weights"))


def _unlearn(lm: LanguageModel, request: dict[str, Any], report: Report) -> Any:
    from unlearning import unlearn

    return unlearn(
        lm,
        forget=request["forget"],
        retain=request["retain"],
        method=request["method"],
        progress=_staged(report, "Unlearning"),
    )


def _software() -> dict[str, str]:
    import torch
    import transformers

    return {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "device": torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu",
    }


# --- Verify ---


def verify(request: dict[str, Any], report: Report) -> dict[str, Any]:
    """Measure the candidate by the plan that was frozen before the change, and judge."""
    from language_models import load
    from language_models.errors import CheckpointError

    report("Loading the candidate", 0, 1)
    lm = load(request["path"])
    if not _is_whole(lm, request):
        raise CheckpointError("The candidate was changed on disk. Start the application again.")
    plan = Plan.from_dict(request["plan"])
    after = measure(lm, plan, _staged(report, "Measuring after"))
    # Measured by the same plan; its plain digest is not kept, for a plan could be guessed from it.
    before = Measurement.from_dict(request["before"] | {"plan_digest": plan.digest})
    # As demanded when the plan was frozen; plans of earlier versions do not say.
    verdict = compare(before, after, plan.thresholds or request["thresholds"])
    # A candidate that does not come into force anyway is not asked what others asked for.
    duties = _rerun(lm, request["duties"], report) if verdict.passed else []
    return {"after": _unnamed(after), "verdict": verdict.as_dict(), "duties": duties}


def rerun_duties(request: dict[str, Any], report: Report) -> dict[str, Any]:
    """Ask the questions of finished cases again of one version."""
    from language_models import load
    from language_models.errors import CheckpointError

    report("Loading the model", 0, 1)
    lm = load(request["path"])
    if not _is_whole(lm, request):
        raise CheckpointError("The version was changed on disk. Restore var/store from a backup.")
    return {"duties": _rerun(lm, request["duties"], report)}


def _is_whole(lm: LanguageModel, request: dict[str, Any]) -> bool:
    return lm.checkpoint is not None and lm.checkpoint.digest == request["digest"]


def _rerun(lm: LanguageModel, duties: list[dict[str, Any]], report: Report) -> list[dict[str, Any]]:
    figures = ("outcome", "reason", "hits", "asked", "upper_95")
    found = []
    for number, row in enumerate(duties):
        report("Asking the questions of earlier cases", number, len(duties))
        result = _asked_again(lm, row)
        found.append({"id": row["id"]} | {name: getattr(result, name) for name in figures})
    return found


def _asked_again(lm: LanguageModel, row: dict[str, Any]) -> Rerun:
    """One duty; that it cannot be asked must not keep the others from being asked."""
    from evaluation.answers import Weights
    from language_models.errors import RequestError

    if "problem" in row:
        return _not_asked(row, "read", row["problem"])
    key, sealed = base64.b64decode(row["key"]), base64.b64decode(row["sealed"])
    try:
        kept = open_duty(sealed, key, today=date.fromisoformat(row["today"]))
    except RequestError as error:
        return _not_asked(row, "read", str(error))
    try:
        return rerun(Weights(lm), kept, key)
    except RequestError as error:
        return _not_asked(row, "put", str(error))


def _not_asked(row: dict[str, Any], what: str, why: str) -> Rerun:
    reason = f"The questions of duty {row['id']} cannot be {what}. {why}"
    return Rerun("unknown", reason, 0, 0, None)


def _unnamed(measurement: Measurement) -> dict[str, Any]:
    """The figures without the digest of the plan, which names the person."""
    return {key: value for key, value in measurement.as_dict().items() if key != "plan_digest"}


def _staged(report: Report, stage: str) -> Report:
    return lambda _stage, done, total: report(stage, done, total)
