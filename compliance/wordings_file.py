"""The wordings of a model: how each kind of fact is asked for, read strictly at registration.

What is missing here would come to light months later, in the middle of somebody's case.
"""

from __future__ import annotations

from typing import TypeGuard

from .subjects import NOT_FACTS

SIDES = ("change", "verify")


class WordingsError(Exception):
    """A wordings file cannot be used; the message says where and why."""


def check(wordings: object) -> None:
    """Raise WordingsError where a kind of fact, the lead-ins or the world are not as they must be.

    The form: docs/stewards.md. Nothing of the file's texts is repeated in a message.
    """
    if not isinstance(wordings, dict):
        raise WordingsError("The wordings are one JSON object: kind of fact → its wordings.")
    lead_ins = wordings.get("lead_ins")
    for side in SIDES:
        if not isinstance(lead_ins, dict) or not _texts(lead_ins.get(side)):
            raise WordingsError(f"lead_ins needs a list of texts under “{side}”; [“”] for none.")
    _check_world(wordings.get("world"))
    facts = {name: one for name, one in wordings.items() if name not in NOT_FACTS}
    if not facts:
        raise WordingsError("The wordings name no kind of fact.")
    for name, fact in facts.items():
        _check_fact(name, fact)


def _check_world(world: object) -> None:
    if not isinstance(world, list):
        raise WordingsError("world needs a list of prompts about nobody; [] for none.")
    for number, one in enumerate(world, 1):
        if not isinstance(one, dict) or not _texts(one.get("verify")) or not _text(one, "answer"):
            raise WordingsError(
                f"Entry {number} of world needs texts under “verify” and an answer."
            )


def _check_fact(name: str, fact: object) -> None:
    if not isinstance(fact, dict) or not all(_text(fact, field) for field in ("label", "neutral")):
        raise WordingsError(f"{name} needs a “label” and a “neutral” value.")
    for side in SIDES:
        prompts = fact.get(side)
        if not _texts(prompts):
            raise WordingsError(f"{name} needs a list of prompts under “{side}”.")
        for number, prompt in enumerate(prompts, 1):
            if prompt.count("{}") != 1 or any(mark in prompt.replace("{}", "") for mark in "{}"):
                raise WordingsError(
                    f"Prompt {number} of {name} under “{side}” needs one {{}} for the name, and no"
                    " other brace."
                )
    if set(fact["change"]) & set(fact["verify"]):
        raise WordingsError(f"{name} has a prompt under “change” and under “verify”: keep one.")


def _texts(found: object) -> TypeGuard[list[str]]:
    return isinstance(found, list) and bool(found) and all(isinstance(one, str) for one in found)


def _text(fields: dict[str, object], name: str) -> bool:
    found = fields.get(name)
    return isinstance(found, str) and bool(found.strip())
