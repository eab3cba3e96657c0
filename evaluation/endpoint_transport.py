"""One named address, asked over HTTP: bounded in time, size and tries, no redirects, TLS checked.

What was sent and what came back never stand in an error: they hold personal data. Nor does a key.
"""

from __future__ import annotations

import asyncio
import json
import ssl
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from ipaddress import ip_address
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from language_models.errors import EndpointError, RequestError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    import httpx2

# Replies after which the same request may succeed: RFC 9110 §15.5.9, RFC 6585 §4, RFC 9110 §15.6.
PASSING = frozenset({408, 429, 500, 502, 503, 504})
SLOW_DOWN = "Ask with lower concurrency, or later."
REFUSED = "It refuses what it is asked: check the model name, and the fields that were added."
SAYS = {
    400: REFUSED,
    401: "It refuses the key: check the variable or file that holds it.",
    403: "It refuses this key for this model: check what the key may do.",
    404: "It knows no such model or path: check address and model name.",
    408: SLOW_DOWN,
    422: REFUSED,
    429: SLOW_DOWN,
}


@dataclass(frozen=True)
class Limits:
    """How long and how often to ask. Times in seconds, sizes in bytes.

    timeout: for one request with its whole answer. tries: the first one counts. backoff: before
    the second try, doubled for each further. longest_wait: the longest that a server may ask for
    by Retry-After. largest: the largest answer that is read.
    """

    timeout: float = 120.0
    tries: int = 5
    backoff: float = 0.5
    longest_wait: float = 60.0
    largest: int = 2**22

    def __post_init__(self) -> None:
        numbers = (self.timeout, self.tries, self.longest_wait, self.largest)
        if min(numbers) <= 0 or self.backoff < 0:
            raise RequestError("The limits of an endpoint must be above 0.")


@dataclass(frozen=True)
class Reply:
    """A whole reply. body: the JSON, or the list of a stream's JSON events."""

    status: int
    body: Any
    server: str
    wait: float | None = None


def check_address(url: str, *, plain_http: bool) -> str:
    """Return a base address without a slash at its end, or raise RequestError."""
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError:
        host = None
    if not host or parts.scheme not in ("http", "https") or " " in url or not url.isprintable():
        raise _no_address()
    if parts.username or parts.password or parts.query or parts.fragment:
        raise RequestError(
            "The address of an endpoint must hold no user, key, query or fragment. Give the key by"
            " a variable or a file."
        )
    if parts.scheme == "http" and not plain_http and not _is_here(host):
        raise RequestError(
            "Questions hold personal data, and http does not protect them on the way. Use https, or"
            " allow plain http for a server in a network of your own."
        )
    return url.rstrip("/")


def _no_address() -> RequestError:
    return RequestError(
        "The address of an endpoint must be like https://host/v1. Give it with http or https."
    )


def _is_here(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _trusted(authorities: Path | None, *, needed: bool) -> ssl.SSLContext | bool:
    """Return whose certificates to trust; True is the system's authorities."""
    try:
        if authorities:
            return ssl.create_default_context(cafile=authorities)
    except OSError:
        raise RequestError(
            "The file of certificate authorities cannot be read. Check its path."
        ) from None
    # Reading the system's authorities takes a tenth of a second; an empty context trusts nobody.
    return True if needed else ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)


class Channel:
    """Requests to one base address; `async with` opens and closes its connections."""

    def __init__(
        self,
        base: str,
        *,
        key: str | None,
        limits: Limits,
        concurrency: int,
        authorities: Path | None,
        environment: bool,
    ) -> None:
        import httpx2

        self.base, self.limits = base, limits
        headers = {"Accept-Encoding": "identity", "User-Agent": "lethe"}
        if key:
            headers["Authorization"] = f"Bearer {key}"
        self._client = httpx2.AsyncClient(
            headers=headers,
            verify=_trusted(authorities, needed=environment or base.startswith("https")),
            trust_env=environment,
            follow_redirects=False,
            timeout=None,  # the whole request has one limit, in `ask`
            limits=httpx2.Limits(max_connections=concurrency),
        )

    async def __aenter__(self) -> Channel:
        await self._client.__aenter__()
        return self

    async def __aexit__(self, *of: Any) -> None:
        await self._client.__aexit__(*of)

    async def ask(self, path: str, body: Mapping[str, Any] | None = None) -> Reply:
        """Post a body, or get a path without one; ask again after failures that may pass.

        Replies of other failures are returned. Raises EndpointError.
        """
        import httpx2

        for attempt in range(1, self.limits.tries + 1):
            wait, status = None, None
            try:
                async with asyncio.timeout(self.limits.timeout):
                    reply = await self._once(path, body)
            except TimeoutError:
                problem = (
                    f"gave no whole answer within {self.limits.timeout:g} s. Allow more time, or"
                    " ask with lower concurrency or for fewer tokens."
                )
            except httpx2.InvalidURL:
                raise _no_address() from None
            except httpx2.TransportError as error:
                problem = _unreached(error)
            else:
                if reply.status not in PASSING:
                    return reply
                wait, status = reply.wait, reply.status
                problem = refused(status)
            if attempt < self.limits.tries:
                await asyncio.sleep(self._pause(attempt, wait, status))
        raise EndpointError(
            f"The endpoint was asked {self.limits.tries} times: it {problem}", status
        )

    async def _once(self, path: str, body: Mapping[str, Any] | None) -> Reply:
        method = "GET" if body is None else "POST"
        async with self._client.stream(method, f"{self.base}{path}", json=body) as response:
            status = response.status_code
            if 300 <= status < 400:
                raise EndpointError(
                    "The endpoint redirects, which is not followed, as what is sent holds personal"
                    " data. Give its final address.",
                    status,
                )
            server = printable(response.headers.get("server", ""))
            if status >= 400:
                return Reply(status, None, server, _retry_after(response.headers))
            content = await self._read(response)
        streamed = response.headers.get("content-type", "").startswith("text/event-stream")
        try:
            found = _events(content) if streamed else json.loads(content)
        except (ValueError, RecursionError):
            raise EndpointError(
                "The endpoint answers with something that is not JSON. Check that its address ends"
                " where /completions or /chat/completions follow, often /v1.",
                status,
            ) from None
        return Reply(status, found, server)

    async def _read(self, response: httpx2.Response) -> bytes:
        if response.headers.get("content-encoding", "identity") != "identity":
            raise EndpointError(
                "The endpoint compresses its answers although it was told not to. Turn that off.",
                response.status_code,
            )
        parts, size = [], 0
        async for part in response.aiter_raw():
            size += len(part)
            if size > self.limits.largest:
                raise EndpointError(
                    f"The endpoint sends an answer above {self.limits.largest} bytes. It may ignore"
                    " the limit of tokens; else allow larger answers.",
                    response.status_code,
                )
            parts.append(part)
        return b"".join(parts)

    def _pause(self, attempt: int, wait: float | None, status: int | None) -> float:
        """Return the seconds before the next try."""
        own = self.limits.backoff * 2.0 ** (attempt - 1)
        if wait is not None and wait > self.limits.longest_wait:
            raise EndpointError(
                f"The endpoint asks to wait {wait:.0f} s, above {self.limits.longest_wait:g} s."
                f" {SLOW_DOWN}",
                status,
            )
        return min(max(own, wait or 0.0), self.limits.longest_wait)


def refused(status: int) -> str:
    """Return what a reply that is no answer means, to stand after "it"."""
    return f"answered with HTTP {status}. {SAYS.get(status, 'See its own log for the reason.')}"


def printable(text: str) -> str:
    """Return a text from outside on one short line."""
    return "".join(letter for letter in text if letter.isprintable())[:200]


def _unreached(error: httpx2.TransportError) -> str:
    if "CERTIFICATE" in str(error):
        raise EndpointError(
            "The certificate of the endpoint is not trusted. Check its address; give the authority"
            " of a certificate of your own as a file."
        ) from None
    return "could not be reached, or broke the connection. Check that it runs, and its address."


def _retry_after(headers: Mapping[str, str]) -> float | None:
    """Return the seconds of Retry-After (RFC 9110 §10.2.3), a number or a date."""
    told = headers.get("retry-after", "")
    try:
        return max(float(int(told)), 0.0)
    except ValueError:
        pass
    try:
        until = parsedate_to_datetime(told)
    except ValueError:
        return None
    aware = until if until.tzinfo else until.replace(tzinfo=UTC)
    return max((aware - datetime.now(UTC)).total_seconds(), 0.0)


def _events(content: bytes) -> list[Any]:
    """Return the JSON of each data line of a stream of server-sent events."""
    # Not splitlines: JSON may hold other line ends as they are.
    data = [line[5:].strip() for line in content.decode().split("\n") if line.startswith("data:")]
    return [json.loads(one) for one in data if one and one != "[DONE]"]
