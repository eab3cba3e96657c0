"""The pages of model stewards: models and datasets, their versions, the way back."""

from __future__ import annotations

from typing import TYPE_CHECKING

from django.shortcuts import get_object_or_404, redirect, render
from django.views.decorators.http import require_safe

from compliance import registry
from compliance.models import ModelVersion, Role

from . import queries
from .access import StaffRequest, attempt, staff_page

if TYPE_CHECKING:
    from django.http import HttpResponse


@staff_page(Role.STEWARD)
@require_safe
def models(request: StaffRequest) -> HttpResponse:
    """Models and datasets with the lineage of their versions."""
    return render(
        request,
        "steward/models.html",
        {
            "models": queries.models(request.organisation),
            "datasets": queries.datasets(request.organisation),
        },
    )


@staff_page(Role.STEWARD)
def roll_back(request: StaffRequest, pk: int) -> HttpResponse:
    """Ask first; then put the former version back into force."""
    version = get_object_or_404(
        ModelVersion.objects.select_related("model", "parent", "made_for__case"),
        pk=pk,
        model__organisation=request.organisation,
        parent__isnull=False,
    )
    if request.method == "POST":
        attempt(
            request,
            lambda: registry.roll_back(version, actor=request.actor),
            f"The former version of “{version.model.name}” is in force again.",
        )
        return redirect("steward:models")
    return render(request, "steward/roll_back.html", {"version": version})
