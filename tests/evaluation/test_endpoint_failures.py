"""Servers that fail, drag on or lie: each is said, and nothing of what was asked is."""

from __future__ import annotations

import itertools
import time
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import TYPE_CHECKING, Any

import pytest

from evaluation.answers import Ask
from evaluation.endpoint import Endpoint
from evaluation.endpoint_transport import Limits, _retry_after
from language_models.errors import EndpointError, RequestError
from tests.evaluation.certificates import write_certificate
from tests.evaluation.servers import MODEL, Reply, echo, last, said, serving

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

SECRET = "Malee Tanaka lives in"
ANSWER = "Bangkok"


def _ask(
    behave: Callable[[str, dict[str, Any]], Reply],
    asks: list[Ask] | None = None,
    models: tuple[str, ...] = (MODEL,),
    **settings: Any,
) -> Endpoint:
    """Ask a server that behaves at the greeting."""

    def both(path: str, body: dict[str, Any]) -> Reply:
        return echo(path, body) if last(body) == "Hello" else behave(path, body)

    limits = Limits(**{"timeout": 2.0, "tries": 2, "backoff": 0.01, **settings.pop("limits", {})})
    with serving(both, models) as server:
        endpoint = Endpoint(server.url, MODEL, limits=limits, **settings)
        endpoint.answer(asks or [Ask((SECRET,))], max_new_tokens=4)
    return endpoint


REPLIES = {
    "an error": (Reply(ANSWER.encode(), 500), "2 times: it answered with HTTP 500"),
    "a bad gateway": (Reply(b"", 502), "HTTP 502"),
    "too much": (Reply(b"", 429), "lower concurrency"),
    "no key": (Reply(b"", 401), "refuses the key"),
    "not allowed": (Reply(b"", 403), "refuses this key"),
    "no such model": (Reply(b"", 404), "no such model"),
    "a form refused": (Reply(ANSWER.encode(), 400), "HTTP 400"),
    "no JSON": (Reply(f"<html>{ANSWER}".encode()), "not JSON"),
    "broken JSON": (Reply(b'{"choices": [{"text": "' + ANSWER.encode()), "not JSON"),
    "deep JSON": (Reply(b"[" * 90_000), "not JSON"),
    "no text": (Reply(b"\xff\xfe"), "not JSON"),
    "another form": (Reply({"answer": ANSWER}), "has not the form"),
    "no choice": (Reply({"model": MODEL, "choices": []}), "has not the form"),
    "a number for a text": (Reply({"choices": [{"text": 7}]}), "has not the form"),
    "a list": (Reply([1]), "has not the form"),
    "an error that says 200": (Reply({"error": ANSWER, "choices": [{}]}), "has not the form"),
    "much": (Reply(b'{"x": "' + b"a" * 200_000 + b'"}'), "above 100000 bytes"),
    "compressed": (Reply(b"x", headers={"Content-Encoding": "gzip"}), "compresses"),
    "half an answer": (Reply(b"x", missing=9), "broke the"),
    "dripping": (Reply(drip=([b" "] * 40, 0.02)), "no whole answer within 0.3 s"),
    "endless": (Reply(drip=([b'{"x": "'] + [b"a" * 9000] * 99, 0.001)), "above 100000 bytes"),
}


@pytest.mark.parametrize("name", REPLIES)
def test_a_server_that_gives_no_answer_is_named_without_what_was_asked_or_said(name: str) -> None:
    reply, why = REPLIES[name]
    timeout = 0.3 if name == "dripping" else 2.0

    with pytest.raises(EndpointError, match=why) as caught:
        _ask(lambda _path, _body: reply, limits={"largest": 100_000, "timeout": timeout})

    for private in (SECRET, ANSWER, "Malee"):
        assert private not in str(caught.value)


def test_a_server_that_hangs_is_given_up_in_time() -> None:
    def hang(_path: str, _body: dict[str, Any]) -> Reply:
        time.sleep(0.4)
        return Reply(b"{}")

    began = time.monotonic()
    with pytest.raises(EndpointError, match=r"no whole answer within 0\.1 s"):
        _ask(hang, [Ask((f"{n}",)) for n in range(4)], limits={"timeout": 0.1})
    assert time.monotonic() - began < 2


def test_a_server_that_is_not_there_is_named() -> None:
    with serving() as gone:
        pass
    endpoint = Endpoint(gone.url, MODEL, limits=Limits(timeout=1, tries=2, backoff=0.01))
    with pytest.raises(EndpointError, match="could not be reached") as caught:
        endpoint.answer([Ask((SECRET,))], max_new_tokens=2)
    assert caught.value.status is None


def test_a_certificate_is_trusted_only_when_its_authority_is(tmp_path: Path) -> None:
    certificate = write_certificate(tmp_path / "certificate.pem")
    asks = [Ask((SECRET,))]
    with serving(certificate=certificate) as server:
        with pytest.raises(EndpointError, match="certificate of the endpoint is not trusted"):
            Endpoint(server.url, MODEL).answer(asks, max_new_tokens=2)
        assert server.seen == server.greetings == []
        told = Endpoint(server.url, MODEL, authorities=certificate)
        assert told.answer(asks, max_new_tokens=2)[0].texts == (f"<{SECRET}>",)
    with pytest.raises(RequestError, match="authorities cannot be read"):
        Endpoint(server.url, MODEL, authorities=tmp_path).answer(asks, max_new_tokens=2)


def test_a_redirect_sends_nothing_to_another_address() -> None:
    with serving() as other:
        moved = Reply(b"", 307, {"Location": f"{other.url}/completions"})
        with pytest.raises(EndpointError, match="redirects"):
            _ask(lambda _path, _body: moved)
        assert other.seen == other.greetings == []


@pytest.mark.parametrize("status", [429, 500, 503])
def test_a_failure_that_passes_is_asked_again(status: int) -> None:
    turn = itertools.count()

    def at_first(path: str, body: dict[str, Any]) -> Reply:
        return Reply(b"", status) if next(turn) == 0 else echo(path, body)

    endpoint = _ask(at_first)

    assert (endpoint.where["texts"], endpoint.problems) == ("2", ())


def test_the_wait_that_a_server_asks_for_is_kept_up_to_a_limit() -> None:
    turn = itertools.count()
    moments: list[float] = []

    def busy(path: str, body: dict[str, Any]) -> Reply:
        moments.append(time.monotonic())
        wait = Reply(b"", 429, {"Retry-After": "1"})
        return wait if next(turn) == 0 else echo(path, body)

    with pytest.raises(EndpointError, match=r"asks to wait 1 s, above 0\.2 s"):
        _ask(busy, limits={"longest_wait": 0.2})
    turn = itertools.count()
    moments.clear()
    _ask(busy, limits={"longest_wait": 1.0})
    assert moments[1] - moments[0] >= 1.0


def test_retry_after_is_a_number_or_a_date() -> None:
    later = format_datetime(datetime.now(UTC) + timedelta(seconds=30), usegmt=True)
    told = ("2", "-5", later, "Fri, 01 Jan 2021 00:00:00 GMT", "soon", "")

    read = [_retry_after({"retry-after": one} if one else {}) for one in told]

    assert read[:2] == [2.0, 0.0]
    assert 28 < (read[2] or 0) <= 30
    assert read[3:] == [0.0, None, None]


def test_a_server_that_names_another_model_proves_nothing() -> None:
    endpoint = _ask(lambda path, _: said(path, ANSWER, model="other-model"))
    dated = _ask(
        lambda path, _: said(path, ANSWER, model="small-2026"),
        models=("small-2026",),
        known_as=["small-2026"],
    )

    assert endpoint.where["named"] == "other-model"
    assert any("names another model" in one for one in endpoint.problems)
    assert dated.problems == ()


def test_a_model_that_changes_is_withheld_or_nameless_proves_nothing() -> None:
    names = itertools.cycle([MODEL, "small-b"])
    asks = [Ask((f"{n}",)) for n in range(4)]

    changing = _ask(lambda path, _: said(path, "", model=next(names)), asks, known_as=["small-b"])
    nameless = _ask(lambda path, _: said(path, ANSWER, model=""))
    filtered = _ask(lambda path, _: said(path, None, finish="content_filter"))
    unlisted = _ask(echo, models=("other-model",))

    assert changing.problems == ("The name of the model changes from answer to answer.",)
    assert changing.where["empty"] == changing.where["texts"] == "7"
    assert nameless.problems == ("The server names no model in 2 of 2 answers.",)
    assert filtered.problems == ("The server withheld 2 of 2 answers by a filter.",)
    assert unlisted.problems == ("The server's list of models does not hold the one asked for.",)
    assert _ask(echo, models=()).where["listed"] == "not told"


def test_a_server_whose_answers_do_not_repeat_is_told_so() -> None:
    count = itertools.count()
    asks = [Ask(("a",)), Ask(("b",), temperature=1.0, seed=1)]

    endpoint = _ask(lambda path, _: said(path, f"{next(count)}"), asks)

    assert endpoint.where["greedy_repeats"] == "no, 0 of 1"
    assert endpoint.where["seeds_repeat"] == "no, 0 of 1"


def test_a_server_that_ignores_the_temperature_proves_nothing() -> None:
    asks = [Ask((f"{n % 4}",), temperature=1.0, seed=n) for n in range(24)]

    ignoring = _ask(lambda path, body: said(path, last(body)), asks)
    drawing = _ask(echo, asks)

    assert ignoring.where["draws"] == "20 of 20 further draws equal the first"
    assert any("ignore the temperature" in one for one in ignoring.problems)
    assert drawing.problems == ()


def test_what_is_raised_while_it_reports_ends_the_asking_as_itself() -> None:
    def stop(*_step: Any) -> None:
        raise KeyError("lease")

    asks = [Ask((f"{n}",)) for n in range(40)]
    with serving() as server:
        with pytest.raises(KeyError, match="lease"):
            Endpoint(server.url, MODEL).answer(asks, max_new_tokens=2, progress=stop)
        assert len(server.seen) < 20


def test_halves_of_characters_become_text_that_files_can_hold() -> None:
    half = b'{"model": "small", "choices": [{"text": "a\\ud83d", "finish_reason": "stop"}]}'
    limits = Limits(timeout=1, tries=1)
    with serving(lambda _path, _body: Reply(half)) as server:
        answers = Endpoint(server.url, MODEL, limits=limits).answer([Ask(("a",))], max_new_tokens=2)
    assert answers[0].texts == ("a?",)
