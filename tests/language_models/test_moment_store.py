from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

import pytest
import torch

from language_models import RequestError
from language_models.architecture import parts
from language_models.moments import second_moments
from tests.language_models.factories import SENTENCES, tiny_model

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

TEXTS = [f"{SENTENCES[n % 3]} {n}" for n in range(12)]


def _digests(found: dict[int, Any]) -> list[str]:
    return [moment.digest for moment in found.values()]


def _kept(folder: Path, *, partial: bool = False) -> list[Path]:
    names = sorted(folder.iterdir())
    return [path for path in names if path.name.endswith(".partial.safetensors") == partial]


def _add(lm: Any, part: Callable[[Any], torch.nn.Module]) -> Any:
    with torch.no_grad():
        part(parts(lm.model)).weight[0, 0] += 0.5
    return lm


def test_moments_from_the_folder_are_those_computed_without_a_pass(tmp_path: Path) -> None:
    lm = tiny_model()
    expected = second_moments(lm, TEXTS, [0, 2])
    first = second_moments(lm, TEXTS, [0, 2], cache=tmp_path)
    steps: list[int] = []

    second = second_moments(
        lm, TEXTS, [0, 2], cache=tmp_path, progress=lambda _s, done, _t: steps.append(done)
    )

    assert _digests(first) == _digests(second) == _digests(expected)
    assert steps == []
    assert len(_kept(tmp_path)) == 2
    assert not _kept(tmp_path, partial=True)


def test_moments_of_a_new_layer_are_added_to_the_folder(tmp_path: Path) -> None:
    lm = tiny_model()
    second_moments(lm, TEXTS, [1], cache=tmp_path)

    found = second_moments(lm, TEXTS, [0, 1], cache=tmp_path)

    assert _digests(found) == _digests(second_moments(lm, TEXTS, [0, 1]))
    assert len(_kept(tmp_path)) == 2


@pytest.mark.parametrize(
    ("part", "kept"),
    [
        (lambda model: model.mlp_out(1).module, True),  # its input stays
        (lambda model: model.mlp_out(2).module, True),  # above the key
        (lambda model: model.final_norm, None),
        (lambda model: model.mlp_out(0).module, False),
        (lambda model: model.attention(1).o_proj, False),
        (lambda model: model.mlp(1).up_proj, False),
        (lambda model: model.embed, False),
    ],
)
def test_moments_of_an_edited_model_are_new_if_the_key_depends_on_the_edit(
    part: Any, kept: bool | None, tmp_path: Path
) -> None:
    second_moments(tiny_model(), TEXTS, [1], cache=tmp_path)
    if kept is None:
        changed = tiny_model()
        with torch.no_grad():
            part(parts(changed.model)).weight[0] += 0.5
    else:
        changed = _add(tiny_model(), part)

    found = second_moments(changed, TEXTS, [1], cache=tmp_path)

    assert found[1].digest == second_moments(changed, TEXTS, [1])[1].digest
    assert len(_kept(tmp_path)) == (2 if kept is False else 1)


@pytest.mark.parametrize("family", ["gpt2", "gemma2"])
def test_moments_of_other_families_are_found_again_after_an_edit_of_the_layer(
    family: str, tmp_path: Path
) -> None:
    second_moments(tiny_model(family), TEXTS, [1], cache=tmp_path)
    edited = _add(tiny_model(family), lambda model: model.mlp_out(1).module)

    second_moments(edited, TEXTS, [1], cache=tmp_path)

    assert len(_kept(tmp_path)) == 1


@pytest.mark.parametrize(
    "changes",
    [
        {"texts": TEXTS[:-1]},
        {"texts": TEXTS[::-1]},
        {"batch_size": 3},
        {"max_tokens": 6},
    ],
)
def test_moments_of_other_texts_or_settings_have_another_name(
    changes: dict[str, Any], tmp_path: Path
) -> None:
    lm = tiny_model()
    second_moments(lm, TEXTS, [1], cache=tmp_path)

    second_moments(lm, **{"texts": TEXTS, "layers": [1], "cache": tmp_path, **changes})

    assert len(_kept(tmp_path)) == 2


def test_moments_under_another_tokenizer_or_other_settings_have_another_name(
    tmp_path: Path,
) -> None:
    second_moments(tiny_model(), TEXTS, [1], cache=tmp_path)
    lm = tiny_model()
    lm.tokenizer.backend_tokenizer.post_processor = None  # no <s> before the text

    second_moments(lm, TEXTS, [1], cache=tmp_path)
    second_moments(tiny_model(rms_norm_eps=1e-4), TEXTS, [1], cache=tmp_path)

    assert len(_kept(tmp_path)) == 3


@pytest.mark.parametrize("after", [1, 3, 5])
def test_moments_stopped_on_the_way_go_on_to_the_same_bits(
    after: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("language_models.moment_store.SAVE_EVERY", 2)
    lm = tiny_model()
    expected = second_moments(lm, TEXTS, [0, 1], batch_size=2)

    def stop(_stage: str, done: int, _total: int) -> None:
        if done == 2 * after:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        second_moments(lm, TEXTS, [0, 1], batch_size=2, cache=tmp_path, progress=stop)
    assert len(_kept(tmp_path, partial=True)) == (after > 1)
    passes: list[int] = []
    with torch.no_grad():
        handle = parts(lm.model).embed.register_forward_hook(lambda *_: passes.append(1))
        found = second_moments(lm, TEXTS, [0, 1], batch_size=2, cache=tmp_path)
        handle.remove()

    assert _digests(found) == _digests(expected)
    assert len(passes) == 6 - after // 2 * 2
    assert not _kept(tmp_path, partial=True)


@pytest.mark.parametrize("partial", [False, True])
def test_a_damaged_file_is_never_used(
    partial: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("language_models.moment_store.SAVE_EVERY", 2)
    lm = tiny_model()
    expected = _digests(second_moments(lm, TEXTS, [1], batch_size=4))

    def stop(_stage: str, done: int, _total: int) -> None:
        if partial and done == 8:
            raise KeyboardInterrupt

    def run() -> dict[int, Any]:
        return second_moments(lm, TEXTS, [1], batch_size=4, cache=tmp_path, progress=stop)

    if partial:
        with pytest.raises(KeyboardInterrupt):
            run()
    else:
        run()
    (path,) = _kept(tmp_path, partial=partial)
    whole = path.read_bytes()
    for damaged in (b"", whole[:-8], whole[:-1] + b"\x7f", whole[:3] + b"\xff" + whole[4:]):
        path.write_bytes(damaged)
        partial = False

        assert _digests(run()) == expected

        (path,) = _kept(tmp_path)
        assert hashlib.sha256(path.read_bytes()).digest()


def test_an_iterator_cannot_be_read_twice(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match="read twice"):
        second_moments(tiny_model(), iter(TEXTS), [1], cache=tmp_path)
    assert not list(tmp_path.iterdir())


def test_nothing_is_written_without_a_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)

    second_moments(tiny_model(), TEXTS, [1])

    assert not list(tmp_path.iterdir())
