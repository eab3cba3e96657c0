"""Which role may open which page; strangers and other organisations see nothing."""

from __future__ import annotations

import pytest
from django.urls import reverse

from compliance.models import ModelVersion, Role, User
from tests.web import factories

pytestmark = pytest.mark.django_db

OFFICER, LEGAL, AUDITOR, STEWARD = Role.OFFICER, Role.LEGAL, Role.AUDITOR, Role.STEWARD
CASE, VERSION, TARGET = "{case}", "{version}", "{target}"

# name, arguments, method, the roles that are let in
PAGES = [
    ("officer:queue", (), "get", (OFFICER, LEGAL)),
    ("officer:case", (CASE,), "get", (OFFICER, LEGAL, AUDITOR)),
    ("officer:progress", (CASE,), "get", (OFFICER, LEGAL, AUDITOR)),
    ("officer:refusal", (CASE,), "get", (OFFICER, LEGAL)),
    ("officer:document", (CASE, "report"), "get", (OFFICER, LEGAL, AUDITOR)),
    ("officer:reveal", (CASE,), "post", (OFFICER, LEGAL)),
    ("officer:send_code", (CASE,), "post", (OFFICER,)),
    ("officer:confirm", (CASE,), "post", (OFFICER,)),
    ("officer:open_selection", (CASE,), "post", (OFFICER,)),
    ("officer:nothing_found", (CASE,), "post", (OFFICER,)),
    ("officer:propose", (CASE, TARGET), "post", (OFFICER,)),
    ("officer:submit", (CASE,), "post", (OFFICER,)),
    ("officer:restart", (CASE,), "post", (OFFICER,)),
    ("officer:close", (CASE,), "post", (OFFICER,)),
    ("legal:queue", (), "get", (LEGAL,)),
    ("legal:approval", (CASE,), "get", (LEGAL,)),
    ("legal:decide_measures", (CASE,), "post", (LEGAL,)),
    ("legal:decide_refusal", (CASE,), "post", (LEGAL,)),
    ("legal:duties", (), "get", (LEGAL,)),
    ("legal:end_duty", (CASE,), "get", (LEGAL,)),
    ("auditor:cases", (), "get", (AUDITOR,)),
    ("auditor:events", (), "get", (AUDITOR,)),
    ("steward:models", (), "get", (STEWARD,)),
    ("steward:roll_back", (VERSION,), "get", (STEWARD,)),
]
WITH_CASE = [page for page in PAGES if CASE in page[1]]
ROLES = (OFFICER, LEGAL, AUDITOR, STEWARD)


@pytest.fixture
def case(place):
    case, _ = factories.received(place)
    factories.verified(case)
    factories.documented(case)
    return case


def address(name: str, arguments: tuple, case) -> str:
    version = ModelVersion.objects.exclude(parent=None).get()
    values = {CASE: case.reference, VERSION: version.pk, TARGET: case.targets.first().pk}
    return reverse(name, args=[values.get(argument, argument) for argument in arguments])


def test_every_page_is_for_its_roles_alone(client, place, case):
    accounts = {role: factories.user(role, place) for role in ROLES}
    found = {}
    for name, arguments, method, _ in PAGES:
        url = address(name, arguments, case)
        for role, account in accounts.items():
            client.force_login(account)
            found[name, role] = getattr(client, method)(url).status_code
    wanted = {
        (name, role): {200, 302} if role in roles else {403}
        for name, _, _, roles in PAGES
        for role in ROLES
    }
    wrong = {key: status for key, status in found.items() if status not in wanted[key]}
    assert wrong == {}
    assert len(found) == len(PAGES) * len(ROLES)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page[0])
def test_strangers_are_sent_to_the_login(client, case, page):
    name, arguments, method, _ = page
    url = address(name, arguments, case)
    answer = getattr(client, method)(url)
    assert (answer.status_code, answer.url) == (302, f"{reverse('login')}?next={url}")


def test_another_organisations_case_is_not_there(client, case):
    elsewhere = factories.organisation("other", "Another controller")
    found = {}
    for name, arguments, method, roles in WITH_CASE:
        client.force_login(factories.user(roles[0], elsewhere))
        found[name] = getattr(client, method)(address(name, arguments, case)).status_code
    assert found == {name: 404 for name, *_ in WITH_CASE}


def test_another_organisations_version_is_not_there(client, case):
    elsewhere = factories.organisation("other", "Another controller")
    client.force_login(factories.user(STEWARD, elsewhere))
    url = address("steward:roll_back", (VERSION,), case)
    assert client.post(url).status_code == 404


def test_lists_hold_the_own_organisation_alone(client, case):
    elsewhere = factories.organisation("other", "Another controller")
    for role, name in (
        (OFFICER, "officer:queue"),
        (AUDITOR, "auditor:cases"),
        (AUDITOR, "auditor:events"),
        (STEWARD, "steward:models"),
    ):
        client.force_login(factories.user(role, elsewhere))
        text = client.get(reverse(name)).content.decode()
        assert case.reference not in text
        assert "Customer assistant" not in text


def test_an_account_without_organisation_is_refused(client):
    client.force_login(factories.user(OFFICER, None))
    answer = client.get(reverse("officer:queue"))
    assert answer.status_code == 403
    assert "Your account has no role in an organisation yet." in answer.content.decode()


def test_an_account_without_role_is_refused(client, place):
    account = User.objects.create(username="nobody", organisation=place, role="")
    client.force_login(account)
    assert client.get(reverse("home")).status_code == 403


@pytest.mark.parametrize(
    ("role", "page"),
    [
        (OFFICER, "officer:queue"),
        (LEGAL, "legal:queue"),
        (AUDITOR, "auditor:cases"),
        (STEWARD, "steward:models"),
    ],
)
def test_home_is_the_roles_first_page(client, place, role, page):
    client.force_login(factories.user(role, place))
    assert client.get(reverse("home")).url == reverse(page)


def test_pages_with_case_data_are_not_stored(client, place, case):
    accounts = {role: factories.user(role, place) for role in ROLES}
    for name, arguments, method, roles in PAGES:
        if method == "get":
            client.force_login(accounts[roles[0]])
            answer = client.get(address(name, arguments, case))
            assert "no-store" in answer["Cache-Control"]


def test_a_change_by_get_is_refused(client, place, case):
    client.force_login(factories.user(OFFICER, place))
    assert client.get(reverse("officer:close", args=[case.reference])).status_code == 405


def test_a_wrong_password_and_an_unknown_account_get_one_answer(client, place):
    known = factories.user(OFFICER, place, password="correct-horse-battery")
    texts = []
    for name in (known.username, "somebody-else"):
        answer = client.post(reverse("login"), {"username": name, "password": "wrong"})
        texts.append(answer.context["form"].errors["__all__"])
    assert texts[0] == texts[1]
    assert texts[0] == ["Account name and password do not match. Check both and try again."]


def test_a_form_without_token_is_refused_in_words(place):
    from django.test import Client

    client = Client(enforce_csrf_checks=True)
    answer = client.post(reverse("public:status"), {"reference": "x", "secret": "y"})
    assert answer.status_code == 403
    assert "The form could not be accepted" in answer.content.decode()


@pytest.mark.parametrize("status", [400, 403, 404, 500])
def test_error_pages_say_what_happened(rf, status):
    from django.views import defaults

    views = {
        400: lambda request: defaults.bad_request(request, ValueError()),
        403: lambda request: defaults.permission_denied(request, ValueError("Only Legal may.")),
        404: lambda request: defaults.page_not_found(request, ValueError()),
        500: defaults.server_error,
    }
    answer = views[status](rf.get("/"))
    assert answer.status_code == status
    assert "Go to the first page" in answer.content.decode()
