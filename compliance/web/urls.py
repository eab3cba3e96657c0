"""The pages."""

from __future__ import annotations

from django.urls import include, path

from . import accounts, auditor, duties, legal, officer, public, retention, steward

public_pages = [
    path("", public.start, name="start"),
    path("request/", public.request_form, name="request"),
    path("request/filed/", public.filed, name="filed"),
    path("status/", public.status, name="status"),
    path("status/code/", public.code, name="code"),
    path("status/withdraw/", public.withdraw, name="withdraw"),
    path("status/letter/", public.letter, name="letter"),
    path("status/leave/", public.leave, name="leave"),
]

officer_pages = [
    path("", officer.queue, name="queue"),
    path("find/", officer.find, name="find"),
    path("<str:reference>/", officer.case, name="case"),
    path("<str:reference>/reveal/", officer.reveal, name="reveal"),
    path("<str:reference>/code/", officer.send_code, name="send_code"),
    path("<str:reference>/identity/", officer.confirm, name="confirm"),
    path("<str:reference>/method/", officer.open_selection, name="open_selection"),
    path("<str:reference>/nothing-found/", officer.nothing_found, name="nothing_found"),
    path("<str:reference>/targets/<int:pk>/", officer.propose, name="propose"),
    path("<str:reference>/submit/", officer.submit, name="submit"),
    path("<str:reference>/refusal/", officer.refusal, name="refusal"),
    path("<str:reference>/restart/", officer.restart, name="restart"),
    path("<str:reference>/close/", officer.close, name="close"),
    path("<str:reference>/progress/", officer.progress, name="progress"),
    path("<str:reference>/documents/<str:kind>/", officer.document, name="document"),
    path("<str:reference>/documents/<str:kind>/proof/", officer.proof, name="proof"),
]

legal_pages = [
    path("", legal.queue, name="queue"),
    path("retention/", retention.review, name="retention"),
    path("retention/confirm/", retention.confirm, name="confirm_shredding"),
    path("retention/shred/", retention.shred, name="shred"),
    path("duties/", duties.listed, name="duties"),
    path("<str:reference>/duties/", duties.end, name="end_duty"),
    path("<str:reference>/hold/", retention.hold, name="hold"),
    path("<str:reference>/hold/lift/", retention.lift, name="lift"),
    path("<str:reference>/", legal.approval, name="approval"),
    path("<str:reference>/measures/", legal.decide_measures, name="decide_measures"),
    path("<str:reference>/refusal/", legal.decide_refusal, name="decide_refusal"),
]

auditor_pages = [
    path("cases/", auditor.cases, name="cases"),
    path("events/", auditor.events, name="events"),
    path("checkpoint/", auditor.checkpoint, name="checkpoint"),
    path("key/", auditor.key, name="key"),
    path("verifier/", auditor.verifier, name="verifier"),
]

steward_pages = [
    path("", steward.models, name="models"),
    path("versions/<int:pk>/roll-back/", steward.roll_back, name="roll_back"),
    path("pause/", steward.pause_jobs, name="pause"),
    path("resume/", steward.resume_jobs, name="resume"),
]

urlpatterns = [
    path("", include((public_pages, "public"))),
    path("home/", accounts.home, name="home"),
    path("login/", accounts.login, name="login"),
    path("logout/", accounts.logout, name="logout"),
    path("cases/", include((officer_pages, "officer"))),
    path("approvals/", include((legal_pages, "legal"))),
    path("audit/", include((auditor_pages, "auditor"))),
    path("models/", include((steward_pages, "steward"))),
]
