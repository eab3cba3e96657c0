"""A real HTTP server that speaks the OpenAI protocol, well or badly, on loopback."""

from __future__ import annotations

import json
import ssl
import threading
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

CHAT, PLAIN = "/v1/chat/completions", "/v1/completions"
MODEL = "small"


@dataclass
class Reply:
    """What is sent back. drip: pieces sent one by one, so many seconds apart. missing: bytes that
    are announced and never come.
    """

    body: Any = b""
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    drip: tuple[list[bytes], float] = field(default_factory=lambda: ([], 0.0))
    missing: int = 0


@dataclass
class Server:
    """seen: (path, body) of each request, the greeting left out; headers: of the last one."""

    url: str
    behave: Callable[[str, dict[str, Any]], Reply]
    models: list[str]
    seen: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    greetings: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    headers: dict[str, str] = field(default_factory=dict)
    most_at_once: int = 0
    _now: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def reply(self, path: str, body: dict[str, Any]) -> Reply:
        said = body.get("prompt") or body["messages"][0]["content"]
        with self._lock:
            (self.greetings if said == "Hello" else self.seen).append((path, body))
            self._now += 1
            self.most_at_once = max(self.most_at_once, self._now)
        try:
            return self.behave(path, body)
        finally:
            with self._lock:
                self._now -= 1


def said(
    path: str, text: str | None, *, finish: str | None = "stop", model: str = MODEL, **more: Any
) -> Reply:
    """An answer in the form of its path."""
    content = (
        {"message": {"role": "assistant", "content": text}} if path == CHAT else {"text": text}
    )
    choice = {"index": 0, "finish_reason": finish, **content}
    return Reply({"object": "x", "model": model, "choices": [choice], **more})


def last(body: dict[str, Any]) -> str:
    """What the user said last."""
    return str(body["messages"][-1]["content"] if "messages" in body else body["prompt"])


def echo(path: str, body: dict[str, Any]) -> Reply:
    """Says the prompt again, and the seed of a draw."""
    drawn = f" {body['seed']}" if body["temperature"] and "seed" in body else ""
    return said(path, f"<{last(body)}{drawn}>", system_fingerprint="fp-1")


@contextmanager
def serving(
    behave: Callable[[str, dict[str, Any]], Reply] = echo,
    models: tuple[str, ...] = (MODEL,),
    certificate: Path | None = None,
) -> Iterator[Server]:
    """Run a server on a free port, with TLS by a file of key and certificate."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        server_version, sys_version = "Small/1", ""
        disable_nagle_algorithm = True

        def do_GET(self) -> None:
            data = {"object": "list", "data": [{"id": name} for name in server.models]}
            self._send(Reply(data) if self.path == "/v1/models" else Reply(b"", 404))

        def do_POST(self) -> None:
            server.headers = dict(self.headers.items())
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            self._send(server.reply(self.path, body))

        def _send(self, reply: Reply) -> None:
            raw = isinstance(reply.body, bytes)
            content = reply.body if raw else json.dumps(reply.body).encode()
            pieces, apart = reply.drip
            self.send_response(reply.status)
            for name, value in reply.headers.items():
                self.send_header(name, value)
            length = sum(map(len, pieces)) if pieces else len(content)
            self.send_header("Content-Length", str(length + reply.missing))
            self.end_headers()
            try:
                for piece in pieces or [content]:
                    self.wfile.write(piece)
                    self.wfile.flush()
                    time.sleep(apart)
            except OSError:
                self.close_connection = True  # the other side went away
            self.close_connection |= bool(reply.missing)

        def log_message(self, *of: Any) -> None:
            pass

    class Quiet(ThreadingHTTPServer):
        daemon_threads = True
        block_on_close = False

        def handle_error(self, *of: Any) -> None:
            pass  # connections that the other side breaks off

    httpd = Quiet(("127.0.0.1", 0), Handler)
    if certificate:
        secure = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        secure.load_cert_chain(certificate)
        httpd.socket = secure.wrap_socket(httpd.socket, server_side=True)
    address = f"{'https' if certificate else 'http'}://127.0.0.1:{httpd.server_port}/v1"
    server = Server(address, behave, list(models))
    thread = threading.Thread(target=httpd.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield server
    finally:
        httpd.shutdown()
        httpd.server_close()
        thread.join()
