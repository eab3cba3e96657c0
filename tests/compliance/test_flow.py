"""The table of moves: what it allows, what it refuses and what every move leaves behind."""

from __future__ import annotations

from itertools import product

import pytest

from compliance import flow
from compliance.models import AuditEvent, Case, Job, JobKind, Outcome, Role
from compliance.permissions import PERSON, SYSTEM, NotAllowed
from compliance.statuses import Status
from tests.compliance import factories

pytestmark = pytest.mark.django_db


def _in(status: Status, case: Case) -> Case:
    outcome = Outcome.FULFILLED if status == Status.CLOSED else ""
    Case.objects.filter(pk=case.pk).update(status=status, outcome=outcome)
    case.refresh_from_db()
    return case


def test_every_status_is_served_by_a_module_that_exists() -> None:
    from importlib import import_module

    assert set(flow.SERVES) == set(Status)
    for module in flow.SERVES.values():
        import_module(module)


def test_every_status_but_closed_has_a_way_on_and_every_move_a_role() -> None:
    sources = {source for source, _ in flow.MOVES}
    assert sources == set(Status) - {Status.CLOSED}
    assert all(move.roles for move in flow.MOVES.values())


def test_moves_outside_the_table_are_refused_for_everybody() -> None:
    bank = factories.organisation()
    case = factories.case(bank)
    actors = [factories.actor(role, bank) for role in (Role.OFFICER, Role.LEGAL, Role.STEWARD)]
    for source, to in product(Status, Status):
        if (source, to) in flow.MOVES:
            continue
        _in(source, case)
        for actor in [*actors, PERSON, SYSTEM]:
            with pytest.raises(NotAllowed, match="cannot go from"):
                flow.move(case, to=to, actor=actor)


def test_moves_are_refused_for_every_role_not_named() -> None:
    bank = factories.organisation()
    case = factories.case(bank)
    actors = {
        role: factories.actor(role, bank)
        for role in (Role.OFFICER, Role.LEGAL, Role.AUDITOR, Role.STEWARD)
    } | {Role.PERSON: PERSON, Role.SYSTEM: SYSTEM}
    for (source, to), move in flow.MOVES.items():
        _in(source, case)
        for role, actor in actors.items():
            if role not in move.roles:
                with pytest.raises(NotAllowed, match="Only"):
                    flow.move(case, to=to, actor=actor)


def test_moves_are_refused_while_the_guard_does_not_hold() -> None:
    bank = factories.organisation()
    case = factories.case(bank)
    officer = factories.actor(Role.OFFICER, bank)
    for source, to, reason in (
        (Status.RECEIVED, Status.IDENTITY, "No one-time code"),
        (Status.IDENTITY, Status.TARGETS, "not confirmed"),
        (Status.TARGETS, Status.METHOD, "Nothing was found"),
        (Status.METHOD, Status.APPROVAL, "no measure proposed"),
        (Status.DOCUMENTATION, Status.CLOSED, "not written yet"),
        (Status.TARGETS, Status.DOCUMENTATION, "outcome is not decided"),
    ):
        _in(source, case)
        with pytest.raises(NotAllowed, match=reason):
            flow.move(case, to=to, actor=officer)
        case.refresh_from_db()
        assert case.status == source


def test_move_logs_and_starts_the_jobs_of_the_new_status() -> None:
    bank = factories.organisation()
    officer = factories.actor(Role.OFFICER, bank)
    case = _in(Status.IDENTITY, factories.case(bank))
    factories.confirmed(case, officer)
    flow.move(case, to=Status.TARGETS, actor=officer)
    event = AuditEvent.objects.last()
    assert event.action == "case.moved"
    assert officer.user.reference in event.leaf
    assert officer.user.username not in event.leaf
    assert Job.objects.get().kind == JobKind.FIND


def test_move_loses_a_race_without_a_trace() -> None:
    bank = factories.organisation()
    officer = factories.actor(Role.OFFICER, bank)
    case = _in(Status.IDENTITY, factories.case(bank))
    factories.confirmed(case, officer)
    mine, theirs = Case.objects.get(pk=case.pk), Case.objects.get(pk=case.pk)
    flow.move(theirs, to=Status.TARGETS, actor=officer)
    events = AuditEvent.objects.count()
    with pytest.raises(flow.FlowError, match="Somebody else"):
        flow.move(mine, to=Status.TARGETS, actor=officer)
    assert AuditEvent.objects.count() == events
    assert Job.objects.count() == 1


def test_closed_case_needs_an_outcome_in_the_database() -> None:
    from django.db import IntegrityError

    case = factories.case(factories.organisation())
    with pytest.raises(IntegrityError):
        Case.objects.filter(pk=case.pk).update(status=Status.CLOSED)


def test_case_without_outcome_does_not_end_early() -> None:
    case = _in(Status.TARGETS, factories.case(factories.organisation()))
    with pytest.raises(NotAllowed, match="outcome is not decided"):
        flow.move(case, to=Status.DOCUMENTATION, actor=PERSON)
