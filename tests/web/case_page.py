"""The page of a case, looked at and used as an officer does."""

from __future__ import annotations

from django.urls import reverse


def page(client, case):
    return client.get(reverse("officer:case", args=[case.reference]))


def act(client, case, name: str, data: dict | None = None, *arguments: int) -> str:
    """Press a button of the case page; returns the text of the page after."""
    url = reverse(f"officer:{name}", args=[case.reference, *arguments])
    answer = client.post(url, data or {}, follow=True)
    assert answer.status_code == 200
    return answer.content.decode()
