from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from evaluation.answers import Answer, Ask
from evaluation.endpoint import Endpoint
from evaluation.endpoint_transport import Limits
from language_models import RequestError
from language_models.errors import EndpointError
from tests.evaluation.servers import CHAT, MODEL, PLAIN, Reply, echo, last, said, serving

if TYPE_CHECKING:
    from pathlib import Path

KEY = "sk-very-secret-word"
QUICK = Limits(timeout=5.0, tries=2, backoff=0.01)


def _endpoint(url: str, **settings: Any) -> Endpoint:
    return Endpoint(url, MODEL, limits=QUICK, **settings)


def _only(path: str, reply: Any = said) -> Any:
    """A server that has one path alone."""
    return lambda asked, body: (
        reply(asked, f"<{last(body)}>") if asked == path else Reply({"error": {}}, 404)
    )


def test_plain_asks_go_to_completions_and_chats_to_chat_in_the_order_asked() -> None:
    asks = [Ask(("a",)), Ask(("b",), chat=True), Ask(("c",), temperature=0.5, seed=2**40 + 7)]
    steps: list[tuple[str, int, int]] = []
    with serving() as server:
        endpoint = _endpoint(server.url)
        answers = endpoint.answer(asks, max_new_tokens=9, progress=lambda *step: steps.append(step))

    assert [answer.texts for answer in answers] == [("<a>",), ("<b>",), ("<c 7>",)]
    assert all(answer.stopped for answer in answers)
    bodies = {last(body): (path, body) for path, body in server.seen}
    assert bodies["a"] == (
        PLAIN,
        {"model": MODEL, "max_tokens": 9, "temperature": 0.0, "prompt": "a", "seed": 0},
    )
    assert bodies["b"][0] == CHAT
    assert (bodies["c"][1]["seed"], bodies["c"][1]["top_p"]) == (7, 1.0)
    assert steps == [("answer", 1, 3), ("answer", 2, 3), ("answer", 3, 3)]
    assert endpoint.problems == ()


def test_where_says_what_was_asked_and_what_the_server_says_of_itself() -> None:
    with serving() as server:
        endpoint = _endpoint(server.url)
        endpoint.answer([Ask(("a",)), Ask((" ",), temperature=1.0)], max_new_tokens=2)

    assert endpoint.where == {
        "kind": "endpoint",
        "url": server.url,
        "model": MODEL,
        "api": "completions",
        "seeds_sent": "yes",
        "named": MODEL,
        "listed": "yes",
        "server": "Small/1",
        "fingerprints": "fp-1",
        "texts": "4",
        "empty": "0",
        "greedy_repeats": "yes, 1 of 1",
        "seeds_repeat": "yes, 1 of 1",
        "draws": "0 of 0 further draws equal the first",
    }


def test_a_second_turn_is_asked_with_the_servers_own_first_answer() -> None:
    with serving() as server:
        plain, chat = _endpoint(server.url).answer(
            [Ask(("a", "b")), Ask(("c", "d"), chat=True)], max_new_tokens=2
        )

    assert plain.texts == ("<a>", "<a<a>\nb>")
    assert chat.texts == ("<c>", "<d>")
    talked = [body["messages"] for path, body in server.seen if path == CHAT]
    assert [one["content"] for one in talked[1]] == ["c", "<c>", "d"]
    assert [one["role"] for one in talked[1]] == ["user", "assistant", "user"]


def test_a_server_with_chat_alone_is_found_out_and_gets_plain_asks_as_a_chat() -> None:
    with serving(_only(CHAT)) as server:
        endpoint = _endpoint(server.url)
        answers = endpoint.answer([Ask(("a",)), Ask(("b",), chat=True)], max_new_tokens=2)

    assert [answer.texts for answer in answers] == [("<a>",), ("<b>",)]
    assert endpoint.where["api"] == "chat"
    assert {path for path, _ in server.greetings} == {PLAIN, CHAT}


def test_a_server_with_completions_alone_refuses_a_chat() -> None:
    with serving(_only(PLAIN)) as server:
        asks = [Ask(("a",)), Ask(("b",), chat=True)]
        with pytest.raises(RequestError, match="answers no chats"):
            _endpoint(server.url).answer(asks, max_new_tokens=2)
        with pytest.raises(RequestError, match="answers no chats"):
            _endpoint(server.url, api="completions").answer(asks, max_new_tokens=2)

        with pytest.raises(EndpointError, match="answers no chats"):
            _endpoint(server.url).answer(asks[1:], max_new_tokens=2)

    assert server.seen == []


def test_a_server_that_is_told_is_not_tried_the_other_way() -> None:
    with serving() as server:
        _endpoint(server.url, api="chat").answer([Ask(("a",))], max_new_tokens=2)

    assert {path for path, _ in server.seen + server.greetings} == {CHAT}


def test_servers_that_refuse_fields_are_asked_without_them() -> None:
    def newer(path: str, body: dict[str, Any]) -> Reply:
        refused = path == PLAIN or "max_tokens" in body or "seed" in body
        return Reply({"error": {}}, 400) if refused else said(path, last(body))

    with serving(newer) as server:
        endpoint = _endpoint(server.url)
        answers = endpoint.answer([Ask(("a",))], max_new_tokens=7)

    assert answers == [Answer(("a",), stopped=True)]
    assert server.seen[0][1]["max_completion_tokens"] == 7
    assert endpoint.where["seeds_sent"] == "refused"


def test_a_server_that_only_streams_is_read_as_a_stream() -> None:
    def stream(path: str, body: dict[str, Any]) -> Reply:
        if not body.get("stream"):
            return Reply({"error": {}}, 422)
        lines = b"".join(
            b'data: {"model": "small", "choices": [%s]}\n\n' % choice
            for choice in (
                b'{"delta": {"role": "assistant"}}',
                b'{"delta": {"content": "Bang"}}',
                b'{"delta": {"content": "kok"}, "finish_reason": "stop"}',
            )
        )
        headers = {"Content-Type": "text/event-stream; charset=utf-8"}
        return Reply(lines + b"data: [DONE]\n\n", headers=headers)

    with serving(stream) as server:
        answers = _endpoint(server.url, api="chat").answer([Ask(("a",))], max_new_tokens=2)

    assert answers == [Answer(("Bangkok",), stopped=True)]


def test_never_more_requests_at_once_than_allowed() -> None:
    def slow(path: str, body: dict[str, Any]) -> Reply:
        import time

        time.sleep(0.02)
        return echo(path, body)

    asks = [Ask((f"{n}",)) for n in range(8)]
    with serving(slow) as server:
        answers = _endpoint(server.url, concurrency=2).answer(asks, max_new_tokens=2)

    assert server.most_at_once == 2
    assert [answer.texts for answer in answers] == [(f"<{n}>",) for n in range(8)]


def test_an_answer_cut_off_has_not_stopped_and_reasoning_is_shown_but_not_talked_on() -> None:
    def thinking(path: str, body: dict[str, Any]) -> Reply:
        message = {"content": f"<{last(body)}>", "reasoning_content": "Malee lives there"}
        finish = "length" if last(body) == "b" else "stop"
        return Reply({"model": MODEL, "choices": [{"message": message, "finish_reason": finish}]})

    with serving(thinking) as server:
        answers = _endpoint(server.url, api="chat").answer(
            [Ask(("a", "b")), Ask(("c",))], max_new_tokens=2
        )

    assert answers[0] == Answer(("Malee lives there\n<a>", "Malee lives there\n<b>"), stopped=False)
    assert answers[1].stopped
    talked = next(body["messages"] for _, body in server.seen if len(body["messages"]) == 3)
    assert talked[1]["content"] == "<a>"


def test_the_key_comes_from_a_variable_or_a_file_and_is_shown_nowhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "key").write_text(f"{KEY}\n")
    monkeypatch.setenv("SOME_KEY", KEY)
    with serving() as server:
        for settings in ({"key_variable": "SOME_KEY"}, {"key_file": tmp_path / "key"}):
            endpoint = _endpoint(server.url, **settings)
            endpoint.answer([Ask(("a",))], max_new_tokens=2)
            assert server.headers["Authorization"] == f"Bearer {KEY}"
            assert KEY not in f"{endpoint!r} {endpoint.where} {endpoint.problems}"
        _endpoint(server.url).answer([Ask(("a",))], max_new_tokens=2)
        assert "Authorization" not in server.headers


def test_a_key_that_is_none_is_refused_without_showing_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for content in (f"{KEY} {KEY}", "", f"{KEY}\nX: y", f"{KEY}é"):
        monkeypatch.setenv("SOME_KEY", content)
        with pytest.raises(RequestError, match="variable") as caught:
            _endpoint("https://host.example/v1", key_variable="SOME_KEY")
        assert KEY not in str(caught.value)
    with pytest.raises(RequestError, match="cannot be read"):
        _endpoint("https://host.example/v1", key_file=tmp_path / "none")
    with pytest.raises(RequestError, match="not by both"):
        _endpoint("https://host.example/v1", key_file=tmp_path, key_variable="SOME_KEY")


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("ftp://host/v1", "like https"),
        ("host/v1", "like https"),
        ("https://[/v1", "like https"),
        ("https://ho st/v1", "like https"),
        ("https://host\x00/v1", "like https"),
        ("https://user:word@host/v1", "no user"),
        ("https://host/v1?key=word", "no user"),
        ("http://host/v1", "plain http"),
        ("http://127.0.0.1.host/v1", "plain http"),
    ],
)
def test_addresses_that_would_give_something_away_are_refused(url: str, why: str) -> None:
    with pytest.raises(RequestError, match=why) as caught:
        _endpoint(url)
    assert "word" not in str(caught.value)
    assert _endpoint("http://host/v1/", plain_http=True).url == "http://host/v1"


def test_settings_that_ask_for_nothing_are_refused() -> None:
    for settings in ({"api": "soap"}, {"concurrency": 0}):
        with pytest.raises(RequestError, match="needs a model name"):
            _endpoint("https://host/v1", **settings)
    with pytest.raises(RequestError, match="max_new_tokens"):
        _endpoint("https://host/v1").answer([Ask(("a",))], max_new_tokens=0)
    with pytest.raises(RequestError, match="limits"):
        Limits(timeout=0)
    assert _endpoint("https://host/v1").answer([], max_new_tokens=1) == []


def test_proxies_of_the_environment_are_used_only_when_asked(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with serving() as proxy, serving() as server:
        monkeypatch.setenv("HTTP_PROXY", proxy.url.removesuffix("/v1"))
        monkeypatch.setenv("ALL_PROXY", proxy.url.removesuffix("/v1"))
        monkeypatch.delenv("NO_PROXY", raising=False)
        monkeypatch.delenv("no_proxy", raising=False)
        _endpoint(server.url).answer([Ask(("a",))], max_new_tokens=2)

    assert proxy.seen == proxy.greetings == []
    assert server.seen
