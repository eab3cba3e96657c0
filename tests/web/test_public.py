"""The requester's pages."""

from __future__ import annotations

import re

import pytest
from django.urls import reverse

from compliance.models import Case, Outcome, Role
from compliance.permissions import staff
from compliance.statuses import Status
from compliance.steps import documentation, ending
from tests.web import factories, results

pytestmark = pytest.mark.django_db

REQUEST = {
    "kind": "removal",
    "name": "Malee Tanaka",
    "contact": "malee@post.example",
    "law": "gdpr",
}


def opened(client, case, secret):
    """The client with the case open in its session."""
    answer = client.post(reverse("public:status"), {"reference": case.reference, "secret": secret})
    assert answer.status_code == 302
    return client


def without_token(content: bytes) -> str:
    return re.sub(r'name="csrfmiddlewaretoken" value="\w+"', "", content.decode())


def test_filing_shows_reference_and_secret_once(client, place):
    answer = client.post(reverse("public:request"), REQUEST)
    assert (answer.status_code, answer.url) == (302, reverse("public:filed"))
    case = Case.objects.get()
    first = client.get(reverse("public:filed"))
    secret = re.search(r'id="secret">([^<]+)<', first.content.decode())[1]
    assert case.reference in first.content.decode()
    again = client.get(reverse("public:filed"))
    assert (again.status_code, again.url) == (302, reverse("public:status"))
    opened(client, case, secret)


def test_form_without_anything_names_every_field(client, place):
    answer = client.post(reverse("public:request"), {"law": "gdpr"})
    errors = answer.context["form"].errors
    assert sorted(errors) == ["contact", "kind", "name"]
    text = answer.content.decode()
    assert "There is a problem" in text
    assert "<title>Error: File a request" in text
    assert 'href="#id_kind_0"' in text
    assert Case.objects.count() == 0


def test_form_with_a_wrong_address_keeps_what_was_entered(client, place):
    answer = client.post(reverse("public:request"), REQUEST | {"contact": "malee"})
    assert answer.context["form"].errors == {
        "contact": ["Enter an e-mail address such as name@example.org."]
    }
    assert 'value="Malee Tanaka"' in answer.content.decode()


def test_correction_without_fact_is_refused(client, place):
    answer = client.post(reverse("public:request"), REQUEST | {"kind": "correction"})
    assert sorted(answer.context["form"].errors) == ["fact", "right_value"]


def test_correction_keeps_fact_and_right_value(client, place):
    wish = {"kind": "correction", "fact": "employer", "right_value": "Vang Logistics"}
    client.post(reverse("public:request"), REQUEST | wish)
    details = Case.objects.get().subject.details
    assert (details["fact"], details["right_value"]) == ("employer", "Vang Logistics")


def test_removal_drops_a_right_value(client, place):
    client.post(reverse("public:request"), REQUEST | {"right_value": "left over"})
    assert Case.objects.get().subject.details["right_value"] == ""


def test_facts_come_from_the_registered_models(client, place):
    form = client.get(reverse("public:request")).context["form"]
    assert [label for _, label in form.fields["fact"].choices] == [
        "Everything about me",
        "Birth city",
        "Diagnosis",
        "Employer",
    ]


def test_several_organisations_are_offered(client, place):
    factories.organisation("other", "Another controller")
    answer = client.post(reverse("public:request"), REQUEST)
    assert answer.context["form"].errors == {
        "organisation": ["Choose the organisation you write to."]
    }
    client.post(reverse("public:request"), REQUEST | {"organisation": "other"})
    assert Case.objects.get().organisation.slug == "other"


def test_without_organisation_nothing_can_be_filed(client):
    assert client.get(reverse("public:request")).status_code == 503


def test_unknown_reference_and_wrong_secret_get_the_same_answer(client, place):
    case, secret = factories.received(place)
    url = reverse("public:status")
    unknown = client.post(url, {"reference": "L2026-0000-0000", "secret": secret})
    wrong = client.post(url, {"reference": case.reference, "secret": "wrong"})
    assert unknown.status_code == wrong.status_code == 200
    assert "No request with this reference and secret." in unknown.content.decode()
    assert without_token(unknown.content) == without_token(wrong.content)
    assert unknown.headers == wrong.headers


def test_status_without_entries_names_both_fields(client, place):
    answer = client.post(reverse("public:status"), {})
    assert sorted(answer.context["form"].errors) == ["reference", "secret"]


def test_status_shows_no_personal_data(client, place):
    case, secret = factories.received(place)
    text = opened(client, case, secret).get(reverse("public:status")).content.decode()
    assert case.reference in text
    assert "Malee" not in text
    assert "post.example" not in text.replace("privacy@", "")


def test_right_code_is_thanked_for(client, place):
    case, secret = factories.received(place)
    code = factories.code_sent(case)
    answer = opened(client, case, secret).post(
        reverse("public:code"), {"code": code.lower()}, follow=True
    )
    assert "The code is right" in answer.content.decode()
    assert "Your code was right." in answer.content.decode()


def test_wrong_code_is_a_form_error(client, place):
    case, secret = factories.received(place)
    factories.code_sent(case)
    answer = opened(client, case, secret).post(reverse("public:code"), {"code": "WRONG"})
    assert answer.context["form"].errors == {
        "code": ["This code is not valid. Check it, or ask us for a new one."]
    }


def test_withdrawing_asks_first(client, place):
    case, secret = factories.received(place)
    opened(client, case, secret).get(reverse("public:withdraw"))
    case.refresh_from_db()
    assert case.status == Status.RECEIVED
    client.post(reverse("public:withdraw"))
    case.refresh_from_db()
    assert (case.status, case.outcome) == (Status.DOCUMENTATION, Outcome.WITHDRAWN)
    text = client.get(reverse("public:status")).content.decode()
    assert "Withdraw the request" not in text


def test_closed_case_cannot_be_withdrawn(client, place):
    case, secret = factories.received(place)
    factories.closed(case)
    answer = opened(client, case, secret).post(reverse("public:withdraw"), follow=True)
    assert "can no longer be withdrawn" in answer.content.decode()


def test_letter_is_for_closed_cases(client, place):
    case, secret = factories.received(place)
    factories.verified(case)
    factories.documented(case)
    opened(client, case, secret)
    assert client.get(reverse("public:letter")).status_code == 404
    documentation.close(case, actor=factories.actor(Role.OFFICER, place))
    answer = client.get(reverse("public:letter"))
    assert answer.content == results.PDF
    assert answer["Content-Disposition"] == f'attachment; filename="{case.reference}-letter.pdf"'
    assert case.events.last().action == "document.downloaded"


@pytest.mark.parametrize("name", ["code", "withdraw", "letter"])
def test_pages_of_a_case_need_its_secret(client, place, name):
    factories.received(place)
    url = reverse(f"public:{name}")
    answer = client.post(url) if name != "letter" else client.get(url)
    assert answer.status_code == 404


def test_leaving_closes_the_case_in_the_browser(client, place):
    case, secret = factories.received(place)
    opened(client, case, secret).post(reverse("public:leave"))
    assert case.reference not in client.get(reverse("public:status")).content.decode()


def test_refused_case_says_so_in_plain_words(client, place):
    case, secret = factories.received(place)
    decision = ending.propose_refusal(
        case,
        actor=factories.actor(Role.OFFICER, place),
        ground="legal_claims",
        facts=factories.REASONS,
    )
    ending.decide_refusal(
        decision,
        actor=staff(factories.user(Role.LEGAL, place)),
        approve=True,
        reasons=factories.REASONS,
    )
    factories.documented(case)
    documentation.close(case, actor=factories.actor(Role.OFFICER, place))
    answer = opened(client, case, secret).get(reverse("public:status"))
    assert answer.context["heading"] == "Your request was refused"
    names = [step.name for step in answer.context["steps"]]
    assert "Change" not in names
