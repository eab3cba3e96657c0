"""Run open-unlearning's NPO on our rows and time its training; not a line of its code is here.

With a Python that has torch, transformers and accelerate; nothing of ours is imported:

    PYTHONPATH=CHECKOUT/src PEER/python benchmarks/peer_open_unlearning.py --model DIR
        --case CASE.json --weights WEIGHTS.safetensors --out RESULT.json

Only Trainer.train is timed: the model is read, copied as reference and the texts are tokens before
the clock starts. Every step has the rows that ours draws, so both do the same training.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import sys
import tempfile
import time
import types
from pathlib import Path
from typing import Any

Rows = list[list[int]]


def npo_class() -> Any:
    """Return open-unlearning's NPO with today's signature of compute_loss.

    Its package is not run as a whole, because that asks for DeepSpeed. Today's Trainer also passes
    the number of items, by which only accumulating runs divide.
    """
    found = importlib.util.find_spec("trainer")
    if found is None:
        raise SystemExit("PYTHONPATH must name the folder src of a checkout of open-unlearning.")
    package = types.ModuleType("trainer")
    package.__path__ = list(found.submodule_search_locations or [])
    sys.modules["trainer"] = package
    theirs: Any = importlib.import_module("trainer.unlearn.npo").NPO

    class Npo(theirs):  # type: ignore[misc]
        """Theirs; `losses` keeps the loss of every step."""

        def __init__(self, **options: Any) -> None:
            super().__init__(**options)
            self.losses: list[Any] = []

        def compute_loss(self, model: Any, inputs: Any, **_: Any) -> Any:
            loss = super().compute_loss(model, inputs)
            self.losses.append(loss.detach())
            return loss

    return Npo


def padded(rows: Rows, pad: int) -> dict[str, Any]:
    """Return rows as the peer's collator pads them: on the right, padding without label."""
    import torch

    ids = [torch.tensor(row) for row in rows]
    pad_sequence = torch.nn.utils.rnn.pad_sequence
    return {
        "input_ids": pad_sequence(ids, batch_first=True, padding_value=pad),
        "attention_mask": pad_sequence([torch.ones_like(row) for row in ids], batch_first=True),
        "labels": pad_sequence(ids, batch_first=True, padding_value=-100),
    }


def trainer_of(model: Any, case: dict[str, Any], folder: str) -> Any:
    """Return the peer's trainer for the steps of a case; each step is one item of its data."""
    from transformers import TrainingArguments

    config = case["config"]
    settings = TrainingArguments(
        output_dir=folder,
        max_steps=len(case["steps"]),
        per_device_train_batch_size=1,
        train_sampling_strategy="sequential",
        learning_rate=config["learning_rate"],
        lr_scheduler_type="linear",
        weight_decay=config["weight_decay"],
        max_grad_norm=config["max_gradient"],
        optim="adamw_torch_fused",
        seed=config["seed"],
        use_cpu=True,
        dataloader_pin_memory=False,
        remove_unused_columns=False,
        save_strategy="no",
        logging_strategy="no",
        report_to=[],
        disable_tqdm=True,
    )
    return npo_class()(
        model=model,
        args=settings,
        train_dataset=case["steps"],
        data_collator=lambda items: {
            name: padded(rows, model.config.pad_token_id) for name, rows in items[0].items()
        },
        beta=config["beta"],
        alpha=config["retain_weight"],
        gamma=config["forget_weight"],
    )


def peak_rss_mb() -> float:
    """Return this program's own peak; getrusage would count that of the one that started it."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return int(status.partition("VmHWM:")[2].split()[0]) / 1024


def arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--case", type=Path, required=True, help="rows of every step and settings")
    parser.add_argument("--threads", type=int, help="threads of torch (default: its own choice)")
    parser.add_argument("--weights", type=Path, required=True, help="where the weights go")
    parser.add_argument("--out", type=Path, required=True)
    return parser.parse_args()


def main() -> None:
    """Train and write the figures and the weights."""
    options = arguments()
    os.environ["HF_HUB_OFFLINE"] = "1"
    import torch
    from safetensors.torch import save_file
    from transformers import AutoModelForCausalLM

    if options.threads:
        torch.set_num_threads(options.threads)
    case = json.loads(options.case.read_text(encoding="utf-8"))
    model = AutoModelForCausalLM.from_pretrained(options.model, dtype=torch.float32)
    with tempfile.TemporaryDirectory(prefix="peer-") as folder:
        trainer = trainer_of(model, case, folder)
        wall, cpu = time.perf_counter(), time.process_time()
        trainer.train()
        seconds, cpu_seconds = time.perf_counter() - wall, time.process_time() - cpu
    result = {
        "seconds": seconds,
        "cpu_seconds": cpu_seconds,
        "peak_rss_mb": peak_rss_mb(),
        "load_average": os.getloadavg()[0],
        "steps": trainer.state.global_step,
        "losses": [float(loss) for loss in trainer.losses],
    }
    save_file({name: p.detach() for name, p in model.named_parameters()}, options.weights)
    options.out.write_text(json.dumps(result, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
