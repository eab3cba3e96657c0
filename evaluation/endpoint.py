"""An OpenAI-compatible server that answers: the deployed service, a closed model.

Nothing is sent to any address but the one given. What the server says of itself is written down
and compared with what was asked for; where they differ, what it answers proves nothing.
"""

from __future__ import annotations

import asyncio
import os
from itertools import islice
from typing import TYPE_CHECKING, Any, Literal

from evaluation.answers import Answer, Ask, check
from evaluation.endpoint_format import ENDED, FORMS, Form, Said, read, request
from evaluation.endpoint_record import Record
from evaluation.endpoint_transport import (
    Channel,
    Limits,
    Reply,
    check_address,
    printable,
    refused,
)
from language_models.errors import EndpointError, RequestError
from language_models.progress import Progress, silent

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

Api = Literal["auto", "completions", "chat"]
# Sent to find out how a server is asked; it names nobody.
GREETING = Ask(("Hello",))
REFUSES_FORM = frozenset({400, 422})
HAS_NOT = frozenset({400, 404, 405, 422, 500, 501})
# Asks of each kind that are put a second time.
AGAIN = 3


class Endpoint:
    """A server that speaks /completions, /chat/completions or both below `url`.

    url: with its version, like https://host/v1. model: the name to ask for; known_as: other names
    that the server may give the same model, like a dated one. key_variable, key_file: where the
    key is, never the key itself. api: what the server has; "auto" finds out by a greeting. A
    server with chat alone gets plain asks as a chat, one with completions alone refuses chats.
    concurrency: requests at a time. authorities: a file of certificates to trust instead of the
    system's. plain_http: allow http to other machines. environment: use its proxies. extra:
    further fields of each request, which a server may know ({"top_k": 0}).
    Raises RequestError.
    """

    def __init__(
        self,
        url: str,
        model: str,
        *,
        known_as: Iterable[str] = (),
        key_variable: str | None = None,
        key_file: Path | None = None,
        api: Api = "auto",
        concurrency: int = 4,
        limits: Limits | None = None,
        authorities: Path | None = None,
        plain_http: bool = False,
        environment: bool = False,
        extra: Mapping[str, Any] | None = None,
    ) -> None:
        if not model or api not in ("auto", "completions", "chat") or concurrency < 1:
            raise RequestError(
                "An endpoint needs a model name, api auto, completions or chat, and a concurrency"
                " from 1."
            )
        self.url = check_address(url, plain_http=plain_http)
        self.model, self.api, self.concurrency = model, api, concurrency
        self.extra = dict(extra or {})
        self.record = Record(model, frozenset(known_as))
        self._options: dict[str, Any] = {
            "key": _key(key_variable, key_file),
            "limits": limits or Limits(),
            "concurrency": concurrency,
            "authorities": authorities,
            "environment": environment,
        }
        # Whether an ask is a chat -> how it is put, as far as found out.
        self._forms: dict[bool, Form] = {}

    @property
    def where(self) -> Mapping[str, str]:
        """What was asked and what it said of itself so far; no key, no question, no answer."""
        forms = {("chat" if form.chat else "completions"): form for form in self._forms.values()}
        asked = {
            "kind": "endpoint",
            "url": self.url,
            "model": self.model,
            "api": " and ".join(sorted(forms)) or "not asked yet",
            "seeds_sent": "yes" if all(form.seed for form in forms.values()) else "refused",
        }
        if self.extra:
            asked["extra"] = ", ".join(sorted(self.extra))
        return asked | self.record.told()

    @property
    def problems(self) -> tuple[str, ...]:
        """Why nothing may be concluded from what this server answered so far."""
        return self.record.problems()

    def answer(
        self, asks: Sequence[Ask], *, max_new_tokens: int, progress: Progress | None = None
    ) -> list[Answer]:
        """Return one answer per ask, in order; later turns see the server's own earlier answers.

        Some asks are put twice, to see whether their answers repeat. Not to be called where an
        event loop runs. Raises RequestError, and EndpointError when one answer is not to be had.
        """
        check(asks)
        if max_new_tokens < 1:
            raise RequestError("max_new_tokens starts at 1.")
        if not asks:
            return []
        return asyncio.run(self._answer(asks, max_new_tokens, progress or silent))

    async def _answer(
        self, asks: Sequence[Ask], max_new_tokens: int, report: Progress
    ) -> list[Answer]:
        async with Channel(self.url, **self._options) as channel:
            if self.record.listed is None:
                self.record.listed = await self._listed(channel)
            for chat in sorted({ask.chat for ask in asks}):
                if chat not in self._forms:
                    self._forms[chat] = await self._find(channel, chat=chat)
            answers = await self._all(channel, asks, max_new_tokens, report)
            await self._repeat(channel, asks, answers, max_new_tokens)
        self.record.draws(asks, answers)
        return answers

    async def _all(
        self, channel: Channel, asks: Sequence[Ask], max_new_tokens: int, report: Progress
    ) -> list[Answer]:
        found: dict[int, Answer] = {}
        waiting = iter(enumerate(asks))

        async def work() -> None:
            for place, ask in waiting:
                found[place] = await self._one(channel, ask, max_new_tokens)
                report("answer", len(found), len(asks))

        try:
            async with asyncio.TaskGroup() as workers:
                for _ in range(min(self.concurrency, len(asks))):
                    workers.create_task(work())
        except BaseExceptionGroup as failed:
            # The first failure ends the rest; callers know it by its own type.
            raise _first(failed) from None
        return [found[place] for place in range(len(asks))]

    async def _one(self, channel: Channel, ask: Ask, max_new_tokens: int) -> Answer:
        form = self._forms[ask.chat]
        goes_on: list[str] = []
        shown: list[str] = []
        stopped = True
        for _ in ask.turns:
            body = {**self.extra, **request(form, self.model, ask, goes_on, max_new_tokens)}
            said = self._said(await channel.ask(form.path, body))
            goes_on.append(said.text)
            shown.append(said.shown)
            stopped = stopped and said.finish in ENDED
        return Answer(tuple(shown), stopped)

    def _said(self, reply: Reply) -> Said:
        if reply.status != 200:
            raise EndpointError(f"The endpoint {refused(reply.status)}", reply.status)
        said = read(reply.body)
        self.record.add(said, reply.server)
        return said

    async def _repeat(
        self, channel: Channel, asks: Sequence[Ask], answers: list[Answer], max_new_tokens: int
    ) -> None:
        """Put some asks a second time, one after the other, and write down how many repeat."""
        pairs = list(zip(asks, answers, strict=True))
        for drawn, kind in ((False, "greedy"), (True, "sampled")):
            some = (pair for pair in pairs if (pair[0].temperature > 0) is drawn)
            for ask, before in islice(some, AGAIN):
                again = await self._one(channel, ask, max_new_tokens)
                self.record.repeated[kind, again.texts == before.texts] += 1

    async def _listed(self, channel: Channel) -> str:
        """Return whether /models lists the model: "yes", "no", or "not told"."""
        try:
            reply = await channel.ask("/models")
        except EndpointError as error:
            if error.status is None:
                raise
            return "not told"
        entries = reply.body.get("data") if isinstance(reply.body, dict) else None
        names = {printable(str(one.get("id"))) for one in entries or [] if isinstance(one, dict)}
        if not names:
            return "not told"
        return "yes" if names & self.record.names else "no"

    async def _find(self, channel: Channel, *, chat: bool) -> Form:
        """Return how to put asks, or raise EndpointError or RequestError."""
        if chat and self.api == "completions":
            raise _no_chat()
        kinds = {"auto": [True] if chat else [False, True], "completions": [False], "chat": [True]}
        status: int | None = None
        for kind in kinds[self.api]:
            for form in FORMS[kind]:
                reply = await self._try(channel, form)
                if reply.status == 200:
                    read(reply.body)
                    return form
                status = reply.status
                if status not in HAS_NOT:
                    raise EndpointError(f"The endpoint {refused(status)}", status)
                if status not in REFUSES_FORM:
                    break
        plain = self._forms.get(False)
        if chat and plain and not plain.chat:
            raise _no_chat()
        ways = "no chats" if kinds[self.api] == [True] else "in no way that was tried"
        raise EndpointError(f"The endpoint answers {ways}: it {refused(status or 404)}", status)

    async def _try(self, channel: Channel, form: Form) -> Reply:
        body = {**self.extra, **request(form, self.model, GREETING, [], 1)}
        try:
            return await channel.ask(form.path, body)
        except EndpointError as error:
            # Some servers fail where they have no chat template.
            if error.status != 500:
                raise
            return Reply(500, None, "")


def _no_chat() -> RequestError:
    return RequestError(
        "This endpoint answers no chats. Leave the form 'chat' out, or serve the model with a chat"
        " template."
    )


def _key(variable: str | None, file: Path | None) -> str | None:
    """Return the key from where it is kept; no error shows any of it."""
    if variable is None and file is None:
        return None
    if variable is not None and file is not None:
        raise RequestError("Give the key by a variable or by a file, not by both.")
    if variable is not None:
        key, place = os.environ.get(variable, ""), "variable"
    else:
        place = "file"
        try:
            key = file.read_text(encoding="ascii") if file else ""
        except (OSError, UnicodeDecodeError):
            raise RequestError("The file of the key cannot be read. Check its path.") from None
    key = key.strip()
    if not key or not key.isascii() or not key.isprintable() or " " in key:
        raise RequestError(f"The {place} of the key must hold one word. Write the key alone in it.")
    return key


def _first(group: BaseExceptionGroup[BaseException]) -> BaseException:
    one = group.exceptions[0]
    return _first(one) if isinstance(one, BaseExceptionGroup) else one
