"""The bodies of OpenAI-compatible requests and answers, and in which of their forms to ask."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from evaluation.answers import messages, transcript
from evaluation.endpoint_transport import printable
from language_models.errors import EndpointError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from evaluation.answers import Ask

# Servers have names of their own for "the model ended its text".
ENDED = frozenset({"stop", "eos", "eos_token", "end_turn", "stop_sequence"})
FILTERED = "content_filter"


@dataclass(frozen=True)
class Form:
    """One way to ask. limit: the name of the limit of tokens. seed: whether seeds are taken."""

    chat: bool
    limit: str = "max_tokens"
    seed: bool = True
    stream: bool = False

    @property
    def path(self) -> str:
        return "/chat/completions" if self.chat else "/completions"


# In the order in which they are tried. Newer chat models refuse max_tokens, some servers seeds,
# some answer by a stream alone.
FORMS = {
    False: (Form(chat=False), Form(chat=False, seed=False), Form(chat=False, stream=True)),
    True: (
        Form(chat=True),
        Form(chat=True, limit="max_completion_tokens"),
        Form(chat=True, seed=False),
        Form(chat=True, limit="max_completion_tokens", seed=False),
        Form(chat=True, stream=True),
    ),
}


@dataclass(frozen=True)
class Said:
    """An answer. shown: all that a reader sees, reasoning too; text: what a dialogue goes on with.

    finish: why it ended, "" when not told. model, fingerprint: as the server names them, or "".
    """

    text: str
    shown: str
    finish: str
    model: str
    fingerprint: str


def request(
    form: Form, model: str, ask: Ask, said: Sequence[str], max_new_tokens: int
) -> dict[str, Any]:
    """Return the body that asks for the turn after those that were answered."""
    turns = ask.turns[: len(said) + 1]
    body: dict[str, Any] = {
        "model": model,
        form.limit: max_new_tokens,
        "temperature": ask.temperature,
    }
    if form.chat:
        body["messages"] = messages(turns, said)
    else:
        body["prompt"] = transcript(turns, said)
    if ask.temperature > 0:
        body["top_p"] = 1.0  # the whole distribution, whatever the server's own default
    if form.seed:
        # Servers read signed numbers of 32 or 64 bits.
        body["seed"] = ask.seed % 2**31
    if form.stream:
        body["stream"] = True
    return body


def read(body: Any) -> Said:
    """Read an answer, whole or as the events of a stream; raise EndpointError on another form."""
    pieces = body if isinstance(body, list) else [body]
    text, thought, finish, model, fingerprint = "", "", "", "", ""
    choices = 0
    for piece in pieces:
        if not isinstance(piece, dict) or piece.get("error"):
            raise _wrong()
        model = _word(piece.get("model")) or model
        fingerprint = _word(piece.get("system_fingerprint")) or fingerprint
        for choice in piece.get("choices") or []:
            if not isinstance(choice, dict):
                raise _wrong()
            choices += 1
            new, thinking = _content(choice)
            text, thought = text + new, thought + thinking
            finish = _word(choice.get("finish_reason")) or finish
    if not choices:
        raise _wrong()
    shown = f"{thought}\n{text}" if thought else text
    return Said(text, shown, finish, model, fingerprint)


def _content(choice: dict[str, Any]) -> tuple[str, str]:
    """Return the text of a choice and the reasoning before it."""
    message = choice.get("message", choice.get("delta"))
    if message is None:
        return _text(choice.get("text")), ""
    if not isinstance(message, dict):
        raise _wrong()
    thinking = message.get("reasoning_content") or message.get("reasoning")
    return _text(message.get("content")) or _text(message.get("refusal")), _text(thinking)


def _text(value: Any) -> str:
    """Return a text; absent ones are empty. A list holds the parts of one."""
    if value is None:
        return ""
    if isinstance(value, list):
        return "".join(_text(part.get("text")) for part in value if isinstance(part, dict))
    if not isinstance(value, str):
        raise _wrong()
    # JSON can write halves of characters, which no file can hold.
    return value.encode("utf-8", "replace").decode()


def _word(value: Any) -> str:
    return printable(value) if isinstance(value, str) else ""


def _wrong() -> EndpointError:
    return EndpointError(
        "The endpoint's answer has not the form of an OpenAI-compatible one, or tells an error. See"
        " its own log, and check its address.",
        200,
    )
