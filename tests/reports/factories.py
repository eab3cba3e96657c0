"""Complete records of fictional cases."""

from __future__ import annotations

from typing import Any

from tests.reports.verifications import failed_attempt, sha, verification


def trace() -> dict[str, Any]:
    """Return a causal trace of six layers."""
    return {
        "roles": ["subject_first", "subject_middle", "subject_last", "between", "last"],
        "layers": [0, 1, 2, 3, 4, 5],
        "grid": [
            [0.04, 0.02, 0.02, 0.01, 0.01, 0.01],
            [0.07, 0.03, 0.02, 0.02, 0.01, 0.01],
            [0.21, 0.09, 0.04, 0.02, 0.02, 0.01],
            [0.03, 0.11, 0.07, 0.04, 0.02, 0.01],
            [0.01, 0.41, 0.81, 0.95, 0.96, 0.97],
        ],
        "low": 0.01,
        "high": 0.97,
        "site": {"role": "last", "layer": 2},
        "warning": "The last token of the name restores less than a quarter of the answer; the "
        "site lies at the end of the prompt instead.",
    }


def decision(measure: str, method: str, guarantee: str) -> dict[str, Any]:
    """Return a decision proposed by the officer and approved by the legal team."""
    return {
        "measure": measure,
        "method": method,
        "guarantee_class": guarantee,
        "proposed_by": "Compliance officer U-03",
        "proposed_at": "2026-11-02T09:05:00+00:00",
        "decided_by": "Legal reviewer U-11",
        "decided_at": "2026-11-03T08:47:00+00:00",
        "outcome": "approved",
        "criteria": [
            {
                "question": "Is the right value wanted, or no influence at all?",
                "answer": "No influence",
                "effect": "Removal rather than a new value",
            },
            {
                "question": "How many facts?",
                "answer": "Six, in nine records",
                "effect": "One change over the whole set of texts",
            },
            {
                "question": "Was the training ours, and are the weights open?",
                "answer": "Both",
                "effect": "Weights can be changed; a retain set exists",
            },
        ],
        "reasons": "The person asks that nothing remain. The data were used for training without "
        "a ground that still holds, and they include a diagnosis.",
        "policy_version": "2026.1",
    }


def model_target() -> dict[str, Any]:
    """Return a model that was changed and verified."""
    facts = ("birth_city", "employer", "occupation", "diagnosis", "telephone", "email")
    return {
        "id": "t-1",
        "kind": "model",
        "name": "Customer assistant",
        "version_before": "lm-" + sha("before")[:16],
        "version_after": "lm-" + sha("after")[:16],
        "findings": {
            "how": "Statements, questions and paraphrases about the person were put to the model; "
            "an answer counts when the recorded value follows.",
            "probes": 312,
            "facts_given_out": 6,
            "facts": [
                {"fact": fact, "probes": 52, "hits": hits}
                for fact, hits in zip(facts, (52, 51, 47, 49, 43, 41), strict=True)
            ],
            "records": None,
            "trace": trace(),
        },
        "decision": decision("remove", "npo", "B"),
        "application": {
            "started_at": "2026-11-03T09:31:04+00:00",
            "finished_at": "2026-11-03T09:31:14+00:00",
            "seconds": 10.4,
            "method": "npo",
            "parameters": {"beta": 0.1, "learning_rate": 0.0003, "steps": 40, "retain_weight": 5},
            "seed": 20261103,
            "hash_before": sha("before"),
            "hash_after": sha("after"),
            "delta_sha256": sha("delta"),
            "details": {
                "forget_texts": 9,
                "retain_texts": 16,
                "loss_first": 2.4816,
                "loss_last": 0.0713,
                "tensors_changed": ["layers 0 to 5", "embedding"],
            },
            "software": {"torch": "2.13.0", "transformers": "5.23.0"},
        },
        "verification": verification(),
    }


def dataset_target() -> dict[str, Any]:
    """Return a dataset of which rows were deleted."""
    return {
        "id": "t-2",
        "kind": "dataset",
        "name": "Customer notes 2025",
        "version_before": "ds-" + sha("rows")[:16],
        "version_after": "ds-" + sha("fewer rows")[:16],
        "findings": {
            "how": "Every record was read; names in both scripts and all identifiers on file "
            "were compared.",
            "probes": 0,
            "facts_given_out": 0,
            "facts": [],
            "records": 9,
            "trace": None,
        },
        "decision": decision("delete_rows", "rows", "A"),
        "application": {
            "started_at": "2026-11-03T09:30:55+00:00",
            "finished_at": "2026-11-03T09:30:56+00:00",
            "seconds": 0.8,
            "method": "rows",
            "parameters": {},
            "seed": None,
            "hash_before": sha("rows"),
            "hash_after": sha("fewer rows"),
            "delta_sha256": None,
            "details": {"rows_before": 412, "rows_deleted": 9, "rows_after": 403},
            "software": {},
        },
        "verification": None,
    }


def full_evidence() -> dict[str, Any]:
    """Return the record of a removal that was carried out at the second attempt."""
    actions = (
        ("case.received", "Public form"),
        ("identity.confirmed", "Compliance officer U-03"),
        ("targets.found", "Worker W-1"),
        ("method.proposed", "Compliance officer U-03"),
        ("method.approved", "Legal reviewer U-11"),
        ("change.applied", "Worker W-1"),
        ("change.verified", "Worker W-1"),
        ("case.closed", "Compliance officer U-03"),
    )
    return {
        "schema": "lethe.report/3",
        "case": {
            "reference": "LT-2026-7F3A-91",
            "organisation": "Meridian Bank (fictional)",
            "status": "closed",
            "outcome": "fulfilled",
            "kind": "removal",
            "law": {
                "id": "eu-gdpr",
                "name": "General Data Protection Regulation",
                "version": "2026.1",
                "articles": ["Article 12(3)", "Article 17(1)(a)"],
                "reviewed": False,
            },
            "received_at": "2026-10-30T13:12:00+07:00",
            "finished_at": "2026-11-03T10:15:00+00:00",
            "requester": "Person 7F3A",
        },
        "identity": {
            "method": "one-time_code",
            "confirmed_at": "2026-10-30T09:44:00+00:00",
            "confirmed_by": "Compliance officer U-03",
            "summary": "A code was sent to the e-mail address on file and was entered in time. "
            "No copy of an identity document was asked for.",
        },
        "clocks": [
            {
                "kind": "acknowledge",
                "started_at": "2026-10-30T06:12:00+00:00",
                "due_at": "2026-11-02T23:59:59+00:00",
                "met_at": "2026-10-30T06:12:04+00:00",
                "source": "House policy",
            },
            {
                "kind": "fulfil",
                "started_at": "2026-10-30T06:12:00+00:00",
                "due_at": "2026-11-30T23:59:59+00:00",
                "met_at": "2026-11-03T10:15:00+00:00",
                "source": "Article 12(3)",
            },
        ],
        "targets": [model_target(), dataset_target()],
        "refusal": None,
        "attempts": [failed_attempt()],
        "not_tested": [
            "Extraction by an attacker who trains the weights further",
            "Probes in languages other than English",
            "Backups made before the change; they expire within 30 days",
        ],
        "notices": [
            {
                "kind": "acknowledgement",
                "made_at": "2026-10-30T06:12:04+00:00",
                "sha256": sha("acknowledgement"),
            },
            {
                "kind": "completion",
                "made_at": "2026-11-03T10:15:00+00:00",
                "sha256": sha("completion"),
            },
        ],
        "events": [
            {
                "seq": 41 + index,
                "at": f"2026-11-0{1 + index // 3}T0{index + 1}:30:00+00:00",
                "action": action,
                "actor": actor,
                "digest": sha(action),
            }
            for index, (action, actor) in enumerate(actions)
        ],
        "software": {
            "lethe": "0.1.0",
            "torch": "2.13.0",
            "weasyprint": "70.0",
            "pyHanko": "0.38.0",
        },
        "made_at": "2026-11-03T10:15:00+00:00",
    }


def refused_evidence() -> dict[str, Any]:
    """Return the record of a request that was refused after the identity check."""
    record = full_evidence()
    record["case"] |= {"outcome": "refused", "reference": "LT-2026-C012-07"}
    record["targets"] = []
    record["attempts"] = []
    record["not_tested"] = []
    record["notices"] = [record["notices"][0]]
    record["events"] = record["events"][:2]
    record["refusal"] = {
        "ground": "legal_claims",
        "article": "Article 17(3)(e)",
        "text": "The right does not apply where processing is necessary for the establishment, "
        "exercise or defence of legal claims.",
        "facts": "An action between the bank and the person is pending. The notes asked for are "
        "evidence in it. They are kept out of training until it ends.",
        "proposed_by": "Compliance officer U-03",
        "decided_by": "Legal reviewer U-11",
        "decided_at": "2026-11-02T14:02:00+00:00",
        "complaint": "The supervisory authority of the place of residence, and the courts.",
    }
    return record


def nothing_found_evidence() -> dict[str, Any]:
    """Return the record of a search that found nothing."""
    record = full_evidence()
    record["case"] |= {"outcome": "nothing_found", "reference": "LT-2026-00B4-55"}
    record["attempts"] = []
    for target in record["targets"]:
        target |= {"decision": None, "application": None, "verification": None}
        target["version_after"] = None
        target["findings"] |= {"facts_given_out": 0, "trace": None}
        for fact in target["findings"]["facts"]:
            fact["hits"] = 0
    record["targets"][1]["findings"]["records"] = 0
    record["events"] = record["events"][:3]
    return record


def withdrawn_evidence() -> dict[str, Any]:
    """Return the record of a request withdrawn before anybody decided."""
    record = full_evidence()
    record["case"] |= {"outcome": "withdrawn", "reference": "LT-2026-A001-13"}
    record["attempts"] = []
    for target in record["targets"]:
        target |= {"application": None, "verification": None, "version_after": None}
        target["decision"] |= {"decided_by": None, "decided_at": None, "outcome": "proposed"}
    return record
