"""A walk through every role's pages in a real Chromium: no error, no foreign request."""

from __future__ import annotations

import os
import re
from contextlib import contextmanager
from urllib.parse import urlsplit

import pytest
from django.test import Client
from django.urls import reverse
from playwright.sync_api import expect, sync_playwright

from compliance.models import Case, Job, JobState, Role
from compliance.permissions import staff
from compliance.steps import ending
from tests.web import factories

# Playwright's own event loop runs in this thread; the rows are still made here, one at a time.
os.environ["DJANGO_ALLOW_ASYNC_UNSAFE"] = "true"

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.xdist_group("browser")]

PASSWORD = "a-walk-through-the-pages"
ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


@pytest.fixture(scope="module")
def chromium():
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path="/usr/bin/chromium", args=ARGUMENTS)
        yield browser
        browser.close()


@pytest.fixture
def place(live_server):
    place = factories.organisation()
    factories.registry(place)
    return place


@contextmanager
def window(chromium, live_server, *, width: int = 1280, script: bool = True):
    """A page that ends the test when it logged, broke the policy or asked another host."""
    context = chromium.new_context(
        base_url=live_server.url,
        viewport={"width": width, "height": 900},
        java_script_enabled=script,
    )
    page = context.new_page()
    said: list[str] = []
    page.on("console", lambda message: said.append(f"{message.type}: {message.text}"))
    page.on("pageerror", lambda error: said.append(str(error)))
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    yield page
    context.close()
    assert said == []
    hosts = {urlsplit(url).netloc for url in asked if not url.startswith("data:")}
    assert hosts == {urlsplit(live_server.url).netloc}


def sign_in(page, role: Role, place):
    account = factories.user(role, place, password=PASSWORD)
    page.goto(reverse("login"))
    page.get_by_label("Account name").fill(account.username)
    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_role("button", name="Sign in").click()
    expect(page.get_by_role("button", name="Sign out")).to_be_visible()
    return account


def signed_in(page, role: Role, place, live_server) -> None:
    """The session of a new account of that role, without the form."""
    client = Client()
    client.force_login(factories.user(role, place))
    value = client.cookies["sessionid"].value
    page.context.add_cookies([{"name": "sessionid", "value": value, "url": live_server.url}])


def fits(page) -> bool:
    """Nothing reaches out of the page to the right."""
    return page.evaluate(
        "document.documentElement.scrollWidth <= document.documentElement.clientWidth"
    )


def test_requester_files_follows_and_withdraws(chromium, live_server, place):
    with window(chromium, live_server) as page:
        page.goto("/")
        page.get_by_role("link", name="File a request").last.click()
        page.get_by_role("button", name="Send the request").click()
        expect(page).to_have_title(re.compile("^Error: "))
        expect(page.get_by_role("alert")).to_be_focused()
        page.get_by_label("Delete what the model knows of me").check()
        expect(page.get_by_label("What is the right value?")).to_be_hidden()
        page.get_by_label("Your full name").fill("Malee Tanaka")
        page.get_by_label("Your e-mail address").fill("malee@post.example")
        page.get_by_role("button", name="Send the request").click()
        reference = page.locator("#reference").inner_text()
        secret = page.locator("#secret").inner_text()
        page.get_by_role("link", name="Go to the status page").click()
        page.get_by_label("Reference").fill(reference.lower())
        page.get_by_label("Secret").fill(secret)
        page.get_by_role("button", name="Show the request").click()
        expect(page.get_by_role("heading", level=1)).to_have_text("We received your request")
        code = factories.code_sent(Case.objects.get())
        page.reload()
        page.get_by_label("One-time code").fill(code)
        page.get_by_role("button", name="Send the code").click()
        expect(page.get_by_text("Your code was right.")).to_be_visible()
        page.get_by_role("link", name="Withdraw the request").click()
        page.get_by_role("button", name="Yes, withdraw the request").click()
        expect(page.get_by_text("Your request is withdrawn.")).to_be_visible()


def test_officer_works_from_the_queue(chromium, live_server, place):
    case, _ = factories.received(place)
    with window(chromium, live_server) as page:
        sign_in(page, Role.OFFICER, place)
        page.get_by_role("link", name=case.reference).click()
        page.get_by_role("button", name="Send the code").click()
        expect(page.get_by_text("The code was sent.", exact=True)).to_be_visible()
        page.get_by_label("Purpose").select_option("identity")
        page.get_by_role("button", name="Reveal").click()
        expect(page.locator("#personal")).to_contain_text("Malee Tanaka")
        page.get_by_role("link", name="Hide again").click()
        expect(page.locator("#personal")).to_have_count(0)
        case.refresh_from_db()
        factories.selecting(case)
        page.reload()
        for _ in range(2):
            page.get_by_role("link", name="Go to the next target").click()
            box = page.locator(":target")
            box.get_by_label("Reasons").fill(factories.REASONS)
            box.get_by_role("button", name="Propose this method").click()
        page.get_by_role("button", name="Hand in for approval").click()
        expect(page.get_by_text("Wait for the legal team")).to_be_visible()


def test_progress_is_followed_and_stops_by_itself(chromium, live_server, place):
    case, _ = factories.received(place)
    job = factories.searching(case)
    running = Job.objects.filter(pk=job.pk)
    running.update(state=JobState.RUNNING, attempt=1, stage="Loading the model")
    with window(chromium, live_server) as page:
        signed_in(page, Role.OFFICER, place, live_server)
        page.goto(reverse("officer:case", args=[case.reference]))
        expect(page.locator("#progress")).to_contain_text("Loading the model")
        running.update(stage="Asking the model", done=30, total=120)
        expect(page.locator("#progress")).to_contain_text("30 of 120")
        running.update(state=JobState.FAILED, error="The step ran past its time limit.")
        expect(page.get_by_role("button", name="Start again")).to_be_visible()
        assert page.locator("[hx-trigger]").count() == 0


def test_legal_decides(chromium, live_server, place):
    case, _ = factories.received(place)
    factories.proposed(case)
    with window(chromium, live_server) as page:
        account = sign_in(page, Role.LEGAL, place)
        own, _ = factories.received(place)
        ending.propose_refusal(
            own, actor=staff(account), ground="legal_claims", facts=factories.REASONS
        )
        page.goto(reverse("legal:approval", args=[own.reference]))
        expect(page.get_by_role("button", name="Approve the refusal")).to_be_disabled()
        page.get_by_role("link", name="Approvals", exact=True).first.click()
        page.get_by_role("link", name=case.reference).click()
        page.get_by_label("Reasons").fill(factories.REASONS)
        page.get_by_role("button", name="Approve and start").click()
        expect(page.get_by_text("The measures are being applied.")).to_be_visible()


def test_auditor_reads_and_steward_sees_the_lineage(chromium, live_server, place):
    case, _ = factories.received(place)
    factories.verified(case)
    factories.documented(case)
    with window(chromium, live_server) as page:
        sign_in(page, Role.AUDITOR, place)
        with page.expect_download() as download:
            page.get_by_role("link", name="Download the report").click()
        assert download.value.suggested_filename == f"{case.reference}-report.pdf"
        page.get_by_role("link", name="Log of record").click()
        expect(page.get_by_text("events of this installation")).to_be_visible()
        expect(page.get_by_text("Document downloaded")).to_be_visible()
        page.get_by_role("button", name="Sign out").click()
        sign_in(page, Role.STEWARD, place)
        page.get_by_role("link", name="Roll back").click()
        expect(page.get_by_role("button", name="Yes, roll back")).to_be_visible()


def test_every_page_fits_a_phone(chromium, live_server, place):
    case, _ = factories.received(place)
    factories.proposed(case)
    done, _ = factories.received(place)
    factories.verified(done)
    factories.documented(done)
    pages = {
        Role.OFFICER: [
            reverse("officer:queue"),
            *(reverse("officer:case", args=[one.reference]) for one in (case, done)),
            reverse("officer:refusal", args=[case.reference]),
        ],
        Role.LEGAL: [
            *(reverse(f"legal:{name}") for name in ("queue", "retention", "duties")),
            reverse("legal:approval", args=[case.reference]),
            reverse("legal:end_duty", args=[done.reference]),
        ],
        Role.AUDITOR: [reverse("auditor:cases"), reverse("auditor:events")],
        Role.STEWARD: [reverse("steward:models")],
    }
    with window(chromium, live_server, width=375) as page:
        wide = [url for url in ("/", "/request/", "/status/") if page.goto(url) and not fits(page)]
        for role, urls in pages.items():
            signed_in(page, role, place, live_server)
            wide += [url for url in urls if page.goto(url) and not fits(page)]
        assert wide == []


def test_without_script_a_case_is_still_worked(chromium, live_server, place):
    case, _ = factories.received(place)
    with window(chromium, live_server, script=False) as page:
        signed_in(page, Role.OFFICER, place, live_server)
        page.goto(reverse("officer:case", args=[case.reference]))
        page.get_by_role("button", name="Send the code").click()
        expect(page.get_by_text("The code was sent.", exact=True)).to_be_visible()
