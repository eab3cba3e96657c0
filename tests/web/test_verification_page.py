"""What the page of a case shows of its verification: figures, plots, attacks, traces, limits."""

from __future__ import annotations

import pytest

from compliance.models import (
    Verification,
)
from compliance.statuses import Status
from tests.web import factories, results
from tests.web.case_page import act, page

pytestmark = pytest.mark.django_db


def test_verified_case_shows_figures_and_closes(client, place, officer):
    case, _ = factories.received(place)
    factories.verified(case)
    factories.documented(case)
    text = page(client, case).content.decode()
    for words in (
        "at most 1.3 %",
        "Residual risk: low.",
        "Every criterion of the plan held.",
        results.sha("plan"),
    ):
        assert words in text
    act(client, case, "close")
    case.refresh_from_db()
    assert case.status == Status.CLOSED


def test_verification_that_did_not_hold_goes_back_with_its_figures(client, place, officer):
    case, _ = factories.received(place)
    factories.verified(case, passed=False)
    view = page(client, case)
    text = view.content.decode()
    assert view.context["status"] == Status.METHOD
    for words in ("At least one thing that had to hold did not.", "Residual risk: high."):
        assert words in text


def test_verification_is_shown_with_plots_attacks_traces_and_limits(client, place, officer):
    case, _ = factories.received(place)
    factories.verified(case)
    text = page(client, case).content.decode()
    for words in (
        "Every criterion of the plan held.",
        "By form of the question",
        "People who share a name",
        "Rounded weights, 4 bits",
        "below 0.5 the model avoids the person&#x27;s texts",
        "Most beyond chance at layer 2: 17.0 %",
        "copies of the weights rounded to 8 bits",
        "SHA-256 of the model folder",
        "Chance that at least one answer leaks: 1 drawn, 0.3 %",
    ):
        assert words in text
    assert text.count('<svg class="plot"') == 6
    assert "style=" not in text


def test_rows_of_earlier_versions_are_still_shown(client, place, officer):
    case, _ = factories.received(place)
    factories.verified(case)
    kept = Verification.objects.get(application__target__dataset=None)
    application = kept.application
    application.before = results.former(application.before)
    application.save()
    kept.after = results.former(kept.after)
    kept.verdict = {key: kept.verdict[key] for key in ("criteria", "passed", "residual_risk")}
    kept.save()
    text = page(client, case).content.decode()
    assert "Residual risk: low." in text
    assert '<svg class="plot"' not in text


def test_unknown_never_looks_like_passed(client, place, officer):
    case, _ = factories.received(place)
    factories.verified(case, passed=False)
    kept = Verification.objects.get(application__target__dataset=None)
    kept.after |= {"groups": {}, "attacks": [], "scores": {}, "perplexity": None}
    kept.verdict = {
        "criteria": [],
        "outcome": "unknown",
        "reasons": ["The service did not answer."],
        "residual_risk": None,
    }
    kept.save()
    text = page(client, case).content.decode()
    assert '<span class="badge-word badge-warn">unknown</span>' in text
    for words in ("This is not a pass.", "The service did not answer.", "Residual risk: unknown."):
        assert words in text


@pytest.mark.parametrize("stage", ["received", "searched", "proposed", "applied", "closed"])
def test_no_page_claims_more_of_weights_than_a_degree(client, place, officer, stage):
    case, _ = factories.received(place)
    if stage != "received":
        getattr(factories, stage)(case)
    text = page(client, case).content.decode().lower()
    for word in ("erased", "forgotten", "guaranteed", "permanently"):
        assert word not in text
