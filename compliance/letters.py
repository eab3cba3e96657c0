"""The letter that answers a request: what was found, decided, done and measured, in plain words.

GDPR Art. 12(3) and (4): action taken, or the reasons for not taking it and where to complain. Of
weights a letter states a degree with its bound, and what was not tested.
"""

from __future__ import annotations

import secrets
from typing import Any

from django.utils import timezone

from .law import law
from .models import Case, Duty, Kind, Outcome

SUBJECTS = {
    Outcome.FULFILLED: "What we did about your request",
    Outcome.REFUSED: "Your request is refused",
    Outcome.WITHDRAWN: "You have withdrawn your request",
    Outcome.NOTHING_FOUND: "We found nothing about you",
}


def compose(case: Case, evidence: dict[str, Any]) -> dict[str, Any]:
    """The letter of a case that has an outcome, in the shape of reports/record.py."""
    outcome = Outcome(case.outcome)
    body = {
        Outcome.FULFILLED: _fulfilled,
        Outcome.REFUSED: _refused,
        Outcome.WITHDRAWN: _withdrawn,
        Outcome.NOTHING_FOUND: _nothing_found,
    }[outcome]
    organisation = case.organisation
    return {
        "schema": "lethe.letter/1",
        "kind": outcome.value,
        "language": "en",
        "reference": case.reference,
        "date": timezone.now().date().isoformat(),
        "organisation": {
            "name": organisation.name,
            "address": organisation.address,
            "contact": f"Data protection: {organisation.contact}",
        },
        "recipient": _recipient(case),
        "subject": SUBJECTS[outcome],
        "blocks": [_opening(case), *body(case, evidence), _complaint(case)],
        "salt": secrets.token_hex(16),
    }


def _recipient(case: Case) -> str:
    on_file = case.subject.on_file
    name = case.subject.details["name"]
    native = on_file["native_name"] if on_file else ""
    return f"{name} ({native})" if native and native != name else name


def _block(
    heading: str | None,
    *paragraphs: str,
    items: list[str] | None = None,
    table: dict[str, Any] | None = None,
) -> dict[str, Any]:
    return {
        "heading": heading,
        "paragraphs": list(paragraphs),
        "items": items or [],
        "table": table,
    }


def _opening(case: Case) -> dict[str, Any]:
    pack = law(case.law)
    asked = (
        "to delete what our language models and their training data hold about you"
        if case.kind == Kind.REMOVAL
        else "to correct a fact about you that our language models give out"
    )
    article = pack.removal_article if case.kind == Kind.REMOVAL else pack.correction_article
    return _block(
        None,
        f"On {case.received_at:%d %B %Y} you asked us {asked} ({pack.name}, {article}). "
        f"This is our answer.",
    )


def _percent(rate: float) -> str:
    return f"{100 * rate:.1f} %"


def _fulfilled(case: Case, evidence: dict[str, Any]) -> list[dict[str, Any]]:
    blocks = []
    for target in evidence["targets"]:
        if target["verification"] is None:
            continue
        describe = _model_done if target["kind"] == "model" else _dataset_done
        blocks.append(describe(target))
    blocks.append(
        _block(
            "What this does not show",
            "No test can show that information can never be drawn out of a model. The figures "
            "hold for the questions that were put and the version that was tested. The following "
            "was not tested:",
            items=evidence["not_tested"],
        )
    )
    kept = Duty.objects.filter(reference=case.reference, ended_at__isnull=True)
    blocks += [_kept(duty) for duty in kept.select_related("model").order_by("pk")]
    blocks.append(
        _block(
            "If it comes back",
            "Should you meet this information in our model again, write to us with the reference "
            "above; we take your case up again.",
        )
    )
    return blocks


def _kept(duty: Duty) -> dict[str, Any]:
    return _block(
        f"What we keep to check the model “{duty.model.name}”",
        f"So that a later version in which the information comes out again is not put to use, we "
        f"keep questions of our test. They name you; in place of the answers stand keyed "
        f"fingerprints. They are sealed under a key of their own and destroyed with your case, on "
        f"{duty.ends_on:%d %B %Y} at the latest. Basis: {duty.basis}. You may object; write to us "
        f"with the reference above.",
    )


def _model_done(target: dict[str, Any]) -> dict[str, Any]:
    verification = target["verification"]
    rows = [
        [
            group["label"],
            str(group["probes"]),
            "–" if group["before_rate"] is None else _percent(group["before_rate"]),
            _percent(group["after_rate"]),
        ]
        for group in verification["groups"]
    ]
    risk = verification["residual_risk"]
    return _block(
        f"The model “{target['name']}”",
        f"Measure: {target['decision']['measure']}. The changed model replaced the former one "
        f"after it was measured by a plan that had been fixed before the change.",
        f"Remaining risk: {risk['level']}. {risk['statement']}",
        table={"head": ["What was asked", "Probes", "Before", "After"], "rows": rows},
    )


def _dataset_done(target: dict[str, Any]) -> dict[str, Any]:
    return _block(
        f"The training data “{target['name']}”",
        f"Measure: {target['decision']['measure']}. "
        f"{target['verification']['residual_risk']['statement']}",
    )


def _refused(case: Case, evidence: dict[str, Any]) -> list[dict[str, Any]]:
    refusal = evidence["refusal"]
    return [
        _block(
            "Our decision",
            f"We do not carry out your request. The ground is {refusal['article']}: "
            f"{refusal['text']}",
        ),
        _block("The facts it rests on", refusal["facts"]),
        _block(
            "What stays as it is",
            "No model and no training data was changed for this request. Your data is used for "
            "no other purpose than the one named.",
        ),
    ]


def _withdrawn(case: Case, evidence: dict[str, Any]) -> list[dict[str, Any]]:
    return [
        _block(
            "What this means",
            "At your wish the request is closed. No change of a model or of training data came "
            "into force for it. You may file a new request at any time.",
        )
    ]


def _nothing_found(case: Case, evidence: dict[str, Any]) -> list[dict[str, Any]]:
    items = [
        f"{target['name']}: {target['findings']['how']} Probes: {target['findings']['probes']}."
        if target["kind"] == "model"
        else f"{target['name']}: {target['findings']['how']}"
        for target in evidence["targets"]
    ]
    return [
        _block(
            "How we searched",
            "We searched the following and found nothing that we could connect with you:",
            items=items,
        ),
        _block(
            "You can help us search",
            "If you know under which other name, address or number we may hold data about you, or "
            "what the model said, write to us with the reference above. We then search again.",
        ),
        _block("What was not searched", items=evidence["not_tested"]),
    ]


def _complaint(case: Case) -> dict[str, Any]:
    pack = law(case.law)
    paragraphs = [pack.complaint]
    if not pack.reviewed:
        paragraphs.append(
            "The legal wording of this letter comes from a collection that no lawyer has signed "
            "off yet."
        )
    return _block("Your right to complain", *paragraphs)
