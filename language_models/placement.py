"""Where the parts of a model lie: on one device, on several, or in files until they are needed.

Accelerate moves what a block gets to where the block is. Weights that fit no device it holds in
memory or reads from the model's own files, and shows them as empty (meta) tensors between uses.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import torch
import transformers

from language_models.errors import CheckpointError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from language_models.families import Family

SPLIT = "split"


def computes_on(device: str | Mapping[str, str | int]) -> str:
    """Return the type of the device that will compute: "cpu", "cuda" …"""
    if not isinstance(device, str):
        others = {str(place) for place in device.values()} - {"cpu", "disk"}
        return "cuda" if others else "cpu"
    if device in ("auto", SPLIT):
        return "cuda" if torch.cuda.is_available() else "cpu"
    return torch.device(device).type


def device_map(
    device: str | Mapping[str, str | int], family: Family, described: dict[str, Any]
) -> str | dict[str, str | int] | None:
    """Return the device map for from_pretrained, or None for a model on one device.

    described: the content of config.json. A map names modules and the device of each; the longest
    name decides, "" stands for the rest.
    Raises CheckpointError where a module has no place.
    """
    if isinstance(device, str):
        return "auto" if device == SPLIT else None
    config = getattr(transformers, family.config_class).from_dict(described)
    with torch.device("meta"):
        model = getattr(transformers, family.model_class)(config)
    # Accelerate needs each block and each module beside them by name; a general "" breaks it.
    blocks = len(model.get_submodule(family.blocks))
    names = [f"{family.blocks}.{layer}" for layer in range(blocks)]
    names += [
        name
        for name, module in model.named_modules()
        if not name.startswith(f"{family.blocks}.")
        and any(True for _ in (*module.parameters(recurse=False), *module.buffers(recurse=False)))
    ]
    return {name: _place(name, device) for name in names}


def input_device(module: torch.nn.Module) -> torch.device:
    """Return where a module with a weight computes, also while its weight is not there."""
    weight = cast("torch.Tensor", module.weight)
    hook: Any = getattr(module, "_hf_hook", None)
    return torch.device(hook.execution_device) if weight.is_meta and hook else weight.device


def whole_state(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    """Return all tensors of a model by name; those kept elsewhere are read in, on the CPU."""
    state: dict[str, torch.Tensor] = model.state_dict(keep_vars=False)
    for prefix, module in model.named_modules():
        away = [name for name, weight in module.named_parameters(recurse=False) if weight.is_meta]
        if away:
            # Only models that are split come here, and Accelerate takes seconds to import.
            from accelerate.utils import align_module_device  # type: ignore[import-untyped]

            with align_module_device(module, torch.device("cpu")):
                for name in away:
                    state[f"{prefix}.{name}"] = module.get_parameter(name).detach().clone()
    return state


def is_out_of_memory(error: BaseException) -> bool:
    """Whether a device, or the machine, had no memory left; torch says so in words on a CPU."""
    kinds = (MemoryError, torch.OutOfMemoryError)
    return isinstance(error, kinds) or "can't allocate memory" in str(error)


def _place(name: str, wanted: Mapping[str, str | int]) -> str | int:
    above = [part for part in wanted if part in ("", name) or name.startswith(f"{part}.")]
    if not above:
        raise CheckpointError(
            f'The device map has no place for {name}. Add it, or "" for the rest.'
        )
    return wanted[max(above, key=len)]
