"""The pages of model stewards: models and datasets, their versions, the way back."""

from __future__ import annotations

from typing import TYPE_CHECKING

from django.shortcuts import get_object_or_404, redirect, render
from django.views.decorators.http import require_POST, require_safe

from compliance import pause, registry
from compliance.models import ModelVersion, Role

from . import queries
from .access import StaffRequest, attempt, staff_page
from .forms import PauseForm

if TYPE_CHECKING:
    from django.http import HttpResponse


@staff_page(Role.STEWARD)
@require_safe
def models(request: StaffRequest) -> HttpResponse:
    """Models and datasets with the lineage of their versions."""
    return _models(request, PauseForm())


def _models(request: StaffRequest, form: PauseForm) -> HttpResponse:
    return render(
        request,
        "steward/models.html",
        {
            "form": form,
            "paused": pause.in_force(),
            "models": queries.models(request.organisation),
            "datasets": queries.datasets(request.organisation),
        },
    )


@staff_page(Role.STEWARD)
def roll_back(request: StaffRequest, pk: int) -> HttpResponse:
    """Ask first; then put the former version back into force."""
    version = get_object_or_404(
        ModelVersion.objects.select_related("model", "parent", "case"),
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


@staff_page(Role.STEWARD)
@require_POST
def pause_jobs(request: StaffRequest) -> HttpResponse:
    """Let all jobs stand still after the step they are in."""
    form = PauseForm(request.POST)
    if not form.is_valid():
        return _models(request, form)
    attempt(
        request,
        lambda: pause.pause(actor=request.actor, reason=form.cleaned_data["reason"]),
        "All jobs are paused. A step that is running is finished first.",
    )
    return redirect("steward:models")


@staff_page(Role.STEWARD)
@require_POST
def resume_jobs(request: StaffRequest) -> HttpResponse:
    """Let the jobs go on."""
    attempt(request, lambda: pause.resume(actor=request.actor), "The jobs go on.")
    return redirect("steward:models")
