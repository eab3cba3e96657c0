"""Promote and roll back a model without end: python -m proofs.promotion_switcher make|switch|state.

Run inside the installation's environment. `make` registers a model with three small versions for
a case that is there; `switch` promotes and rolls back until it is killed, and writes a line to the
file `switches` for each; `state` puts the link in order and says what is in force.
"""

from __future__ import annotations

import json
import os
import random
import sys
import time
from typing import TYPE_CHECKING, Any

import django

from proofs.promotion_reader import digest

if TYPE_CHECKING:
    from pathlib import Path

    from compliance.models import LanguageModel, ModelVersion
    from compliance.permissions import Actor

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")

VERSIONS = 3
FILES = ("config.json", "model.safetensors", "tokenizer.json")
FILE_BYTES = 32 << 10


def make() -> None:
    """One version in force and two made from it for the case."""
    from django.utils import timezone

    from compliance import serving
    from compliance.models import Case, LanguageModel, ModelVersion, Role, User

    case = Case.objects.get()
    office = case.organisation
    User.objects.create_user("steward", role=Role.STEWARD, organisation=office)
    model = LanguageModel.objects.create(
        organisation=office, name="Model", family="none", wordings="0" * 64
    )
    first = None
    for number in range(VERSIONS):
        made = ModelVersion.objects.create(
            model=model,
            digest=_folder(number),
            parent=first,
            state="discarded" if first else "current",
            case=case if first else None,
            created_at=timezone.now(),
        )
        first = first or made
    serving.follow(model)


def _folder(number: int) -> str:
    """A small version in the store, adopted as the product does; returns its digest."""
    from django.conf import settings

    from compliance import store

    draw = random.Random(number)  # noqa: S311 -- content that differs, no secret
    work: Path = settings.WORK_DIR / f"version-{number}"
    work.mkdir(parents=True)
    for name in FILES:
        (work / name).write_bytes(draw.randbytes(FILE_BYTES))
    made = digest(work)
    store.adopt_model(work, made)
    return made


def switch() -> None:
    """What a worker does when it starts, then one promotion or rollback after the other."""
    from django.conf import settings

    from compliance import serving
    from compliance.models import LanguageModel, User
    from compliance.permissions import staff

    model = LanguageModel.objects.get()
    steward = staff(User.objects.get(username="steward"))
    with (settings.VAR_DIR / "switches").open("a", buffering=1) as told:
        behind = serving.serves(model) != _in_force(model).digest
        serving.follow_all()
        told.write(json.dumps({"started": True, "behind": behind}) + "\n")
        while True:
            begun = time.perf_counter()
            done = _next(model, steward)
            told.write(json.dumps({done: round(time.perf_counter() - begun, 4)}) + "\n")


def _in_force(model: LanguageModel) -> ModelVersion:
    from compliance import registry

    return registry.current_model(model)


def _next(model: LanguageModel, steward: Actor) -> str:
    """One switch, whatever an earlier process left half-done."""
    from django.db import transaction

    from compliance import registry
    from compliance.models import Case, ModelVersion

    version = _in_force(model)
    if version.parent is not None:
        registry.roll_back(version, actor=steward)
        return "rolled back"
    if not version.children.filter(state="candidate").exists():
        # As after a new application: one of the two, in turns by chance.
        ready = random.choice(list(version.children.all()))  # noqa: S311
        ModelVersion.objects.filter(pk=ready.pk).update(state="candidate")
    with transaction.atomic():
        registry.promote(Case.objects.get())
    return "promoted"


def state() -> dict[str, Any]:
    """The link after upkeep, the database, and how many switches the log knows of."""
    from django.conf import settings

    from compliance import audit_check, serving
    from compliance.models import AuditEvent, LanguageModel

    serving.follow_all()
    model = LanguageModel.objects.get()
    events = AuditEvent.objects.filter(action__in=("version.promoted", "version.rolled_back"))
    return {
        "same": serving.serves(model) == _in_force(model).digest,
        "switches": events.count(),
        "link": str(serving.link(model)),
        "left": len(list((settings.STORE_DIR / "serving").glob(".*"))),
        "log": audit_check.verify().problem,
    }


def main() -> int:
    """Do what is asked."""
    django.setup()
    if sys.argv[1] == "make":
        make()
    elif sys.argv[1] == "switch":
        switch()
    sys.stdout.write(json.dumps(state()) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
