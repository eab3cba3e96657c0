"""A folder of second moments, each under a name that says everything it depends on.

A name is the SHA-256 over the tensors below the key (so an edit of the same layer's second
projection keeps it, any edit below changes it), the settings of the model, the token rows that
its tokenizer makes of the texts, the layer and the size of the batches. A file that was damaged
is not used; what it held is computed again.
"""

from __future__ import annotations

import hashlib
import json
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from language_models.architecture import parts
from language_models.checkpoint import tensor_digest
from language_models.errors import RequestError
from language_models.files import sync
from language_models.moments import SAVE_EVERY, Moment, Rows, Sums, moment_digest

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from torch import Tensor

    from language_models.checkpoint import LanguageModel
    from language_models.progress import Progress

# Another number here leaves all files written before unused.
FORMAT = 1


@dataclass(frozen=True)
class Names:
    """The names of the files: of each layer's moment, and of the sums of an unfinished pass."""

    layers: dict[int, str]

    def unfinished(self, layers: Sequence[int]) -> str:
        """Return the name under which the sums of some layers are kept until they are whole."""
        return _hashed([self.layers[layer] for layer in layers]) + ".partial.safetensors"


def through_store(
    lm: LanguageModel,
    rows: Rows,
    layers: Sequence[int],
    batch_size: int,
    folder: Path,
    progress: Progress,
) -> dict[int, Moment]:
    """Return the moments of `layers`, from the folder where they are there, else computed and kept.

    Every SAVE_EVERY batches the sums are written, whole or not at all; the next call with the
    same arguments goes on from there and ends with the same bits.
    """
    if iter(rows.texts) is rows.texts:
        raise RequestError("With a cache the texts are read twice: give a list, not an iterator.")
    names, total = _names(lm, rows, layers, batch_size)
    folder.mkdir(parents=True, exist_ok=True)
    found = {layer: _read_moment(folder / names.layers[layer], lm, layer) for layer in layers}
    missing = [layer for layer, moment in found.items() if moment is None]
    if missing:
        sums = Sums(lm, missing)
        unfinished = folder / names.unfinished(missing)
        done = _resume(unfinished, sums)
        for number, batch in enumerate(rows.batches(batch_size), start=1):
            if number > done:
                sums.add(batch)
                if number % SAVE_EVERY == 0:
                    _write_sums(unfinished, sums, number)
            progress("moments", min(number * batch_size, total), total)
        for layer, moment in sums.moments().items():
            about = {"count": str(moment.count), "digest": moment.digest}
            _write(folder / names.layers[layer], {"matrix": moment.matrix}, about)
            found[layer] = moment
        unfinished.unlink(missing_ok=True)
    return {layer: moment for layer, moment in found.items() if moment is not None}


def _names(
    lm: LanguageModel, rows: Rows, layers: Sequence[int], batch_size: int
) -> tuple[Names, int]:
    """Return the names of the files and the number of texts."""
    texts = hashlib.sha256()
    count = 0
    for row in rows:
        texts.update(json.dumps(row).encode())
        count += 1
    config = {k: v for k, v in lm.model.config.to_dict().items() if k != "_name_or_path"}
    common = [
        FORMAT,
        json.dumps(config, sort_keys=True, default=str),
        texts.hexdigest(),
        batch_size,
    ]
    below = _weights_below(lm, layers)
    names = {layer: _hashed([*common, layer, below[layer]]) for layer in layers}
    return Names({layer: f"{name}.safetensors" for layer, name in names.items()}), count


def _weights_below(lm: LanguageModel, layers: Sequence[int]) -> dict[int, str]:
    """Return per layer the SHA-256 of all tensors that its key depends on."""
    model = parts(lm.model)
    digests: dict[int, list[tuple[str, str]]] = {}
    for layer, name, tensor in _tensors(lm):
        if layer <= max(layers):
            digests.setdefault(layer, []).append((name, tensor_digest(tensor)))
    own = (f"{model.family.mlp}.{model.family.second}.", f"{model.family.norm_after_mlp}.")
    found = {}
    for layer in layers:
        start = f"{model.family.blocks}.{layer}."
        after = tuple(start + path for path in own)
        found[layer] = _hashed(
            [one for at in range(-1, layer) for one in digests.get(at, [])]
            + [one for one in digests[layer] if not one[0].startswith(after)]
        )
    return found


def _tensors(lm: LanguageModel) -> Iterator[tuple[int, str, Tensor]]:
    """Yield layer, name and value of all tensors below the head; outside the blocks layer is -1."""
    model = parts(lm.model)
    above = (model.head, model.final_norm)
    skipped = tuple(name + "." for name, one in lm.model.named_modules() if one in above)
    start = model.family.blocks + "."
    for name, tensor in (*lm.model.named_parameters(), *lm.model.named_buffers()):
        if name.startswith(start):
            yield int(name.removeprefix(start).split(".")[0]), name, tensor
        elif not name.startswith(skipped):
            yield -1, name, tensor


def _read_moment(path: Path, lm: LanguageModel, layer: int) -> Moment | None:
    read = _read(path)
    if read is None:
        return None
    tensors, about = read
    width = parts(lm.model).mlp_out(layer).d_in
    matrix, count = tensors.get("matrix"), about.get("count", "")
    if matrix is None or matrix.shape != (width, width) or not count.isdecimal():
        return None
    whole = moment_digest(matrix, int(count)) == about.get("digest")
    return Moment(matrix, int(count), about["digest"]) if whole else None


def _resume(path: Path, sums: Sums) -> int:
    """Put the sums of a pass that was stopped in place; return how many batches are in them."""
    read = _read(path)
    if read is None:
        return 0
    tensors, about = read
    numbers = [about.get("batches", ""), about.get("count", "")]
    if about.get("digest") != _sums_digest(tensors, numbers):
        return 0
    for layer, total in sums.totals.items():
        total.copy_(tensors[str(layer)])
    sums.count = int(numbers[1])
    return int(numbers[0])


def _write_sums(path: Path, sums: Sums, batches: int) -> None:
    tensors = {str(layer): total.cpu() for layer, total in sums.totals.items()}
    numbers = [str(batches), str(sums.count)]
    about = {"batches": numbers[0], "count": numbers[1], "digest": _sums_digest(tensors, numbers)}
    _write(path, tensors, about)


def _sums_digest(tensors: dict[str, Tensor], numbers: list[str]) -> str:
    return _hashed([numbers, *((name, tensor_digest(tensors[name])) for name in sorted(tensors))])


def _read(path: Path) -> tuple[dict[str, Tensor], dict[str, str]] | None:
    """Return the tensors and the metadata of a file, or None without one that can be read."""
    if not path.is_file():
        return None
    try:
        with safe_open(path, framework="pt") as stored:
            return {name: stored.get_tensor(name) for name in stored.keys()}, (  # noqa: SIM118
                stored.metadata() or {}
            )
    except SafetensorError:
        return None


def _write(path: Path, tensors: dict[str, Tensor], about: dict[str, str]) -> None:
    """Write a file whole or not at all; one that is there is replaced."""
    with tempfile.TemporaryDirectory(prefix=".saving-", dir=path.parent) as work:
        fresh = Path(work) / "moment"
        save_file({name: one.contiguous() for name, one in tensors.items()}, fresh, metadata=about)
        sync(fresh)
        fresh.replace(path)
    sync(path.parent)


def _hashed(value: Any) -> str:
    return hashlib.sha256(json.dumps(value).encode()).hexdigest()
