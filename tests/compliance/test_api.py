from __future__ import annotations

import pytest

from compliance.models import Case
from tests.compliance import factories

pytestmark = pytest.mark.django_db
REQUEST = {"kind": "removal", "name": "Malee Tanaka", "contact": "malee@home.example"}


def _post(client, body: dict):
    return client.post("/api/requests/", body, content_type="application/json")


def test_post_files_a_request_and_get_follows_it(client) -> None:
    factories.organisation()
    filed = _post(client, REQUEST)
    assert filed.status_code == 201
    answer = filed.json()
    followed = client.get(
        f"/api/requests/{answer['reference']}/",
        headers={"Authorization": f"Secret {answer['secret']}"},
    )
    assert followed.status_code == 200
    assert followed.json()["status"] == "received"
    assert "secret" not in followed.json()
    assert followed["Cache-Control"] == "no-store"


def test_get_same_answer_for_unknown_reference_and_wrong_secret(client) -> None:
    factories.organisation()
    answer = _post(client, REQUEST).json()
    wrong = client.get(
        f"/api/requests/{answer['reference']}/", headers={"Authorization": "Secret no"}
    )
    unknown = client.get(
        "/api/requests/L2026-AAAA-AAAA/",
        headers={"Authorization": f"Secret {answer['secret']}"},
    )
    nothing = client.get(f"/api/requests/{answer['reference']}/")
    assert wrong.status_code == unknown.status_code == nothing.status_code == 404
    assert wrong.content == unknown.content == nothing.content


@pytest.mark.parametrize("missing", ["name", "contact", "kind"])
def test_post_without_a_needed_field_says_which(client, missing: str) -> None:
    factories.organisation()
    answer = _post(client, {key: value for key, value in REQUEST.items() if key != missing})
    assert answer.status_code == 400
    assert list(answer.json()["errors"]) == [missing]
    assert Case.objects.count() == 0


def test_post_a_correction_without_a_value_says_which(client) -> None:
    factories.organisation()
    answer = _post(client, REQUEST | {"kind": "correction", "fact": "birth_city"})
    assert answer.status_code == 400
    assert list(answer.json()["errors"]) == ["right_value"]


def test_post_with_two_organisations_asks_which(client) -> None:
    factories.organisation()
    factories.organisation("shop")
    assert list(_post(client, REQUEST).json()["errors"]) == ["organisation"]
    assert _post(client, REQUEST | {"organisation": "shop"}).status_code == 201
