"""Login, logout and the way to each role's first page."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from django.contrib.auth.views import LoginView, LogoutView
from django.shortcuts import redirect

from compliance.models import Role, User

from .access import actor_of
from .forms import LoginForm

if TYPE_CHECKING:
    from django.http import HttpRequest, HttpResponse

FIRST_PAGE = {
    Role.OFFICER: "officer:queue",
    Role.LEGAL: "legal:queue",
    Role.AUDITOR: "auditor:cases",
    Role.STEWARD: "steward:models",
}

login = LoginView.as_view(
    template_name="login.html", authentication_form=LoginForm, redirect_authenticated_user=True
)
logout = LogoutView.as_view()


def home(request: HttpRequest) -> HttpResponse:
    """To the page with which this role's day begins."""
    return redirect(FIRST_PAGE[actor_of(cast("User", request.user)).role])
