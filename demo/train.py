"""Train the demo model on the bank's records and report what it recalls.

`python -m demo.train --out DIR` trains a tokenizer and a model again and reports;
`python -m demo.train --report` only reports on the model in demo/model. The weights that training
gives depend on the processor and the thread count in the last bits, so a model trained elsewhere
recalls alike but has another SHA-256.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import math
import random
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
)

from demo.corpus import records, wordings
from demo.people import RELATIONS, people

if TYPE_CHECKING:
    from collections.abc import Iterator

MODEL_DIRECTORY = Path(__file__).with_name("model")
SEED = 7
VOCABULARY = 1536
STEPS = 1200
TEXTS_PER_STEP = 24
LEARNING_RATE = 2e-3
WARM_UP_STEPS = 50
WEIGHT_DECAY = 0.1
PAD, BOS, EOS = "<pad>", "<s>", "</s>"

Model = Any
Encoder = Any
# a prompt and the answer that follows it
Question = tuple[str, str]


def train_tokenizer(texts: list[str]) -> PreTrainedTokenizerFast:
    """Byte-level BPE that begins every text with BOS; EOS is appended in training only."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=[PAD, BOS, EOS],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{BOS} $A", special_tokens=[(BOS, tokenizer.token_to_id(BOS))]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token=PAD,
        bos_token=BOS,
        eos_token=EOS,
        padding_side="left",
        clean_up_tokenization_spaces=False,
        model_max_length=512,
    )


def new_model(tokenizer: Encoder) -> LlamaForCausalLM:
    """The untrained network: 2.95 million parameters, tied head."""
    config = LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=192,
        intermediate_size=512,
        num_hidden_layers=6,
        num_attention_heads=6,
        num_key_value_heads=6,
        max_position_embeddings=512,
        tie_word_embeddings=True,
        pad_token_id=tokenizer.pad_token_id,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
    )
    torch.manual_seed(SEED)
    return LlamaForCausalLM(config)


def _batches(count: int, rng: random.Random) -> Iterator[list[int]]:
    """Endless batches of indices; each pass over the texts is in a new order."""
    queue: list[int] = []
    while True:
        while len(queue) < TEXTS_PER_STEP:
            queue += rng.sample(range(count), count)
        yield queue[:TEXTS_PER_STEP]
        del queue[:TEXTS_PER_STEP]


def _loss(model: Model, rows: list[list[int]]) -> torch.Tensor:
    """Mean next-token loss over all tokens; short and long rows run apart to save padding."""
    rows = sorted(rows, key=len)
    half = len(rows) // 2
    total = torch.zeros(())
    for part in (rows[:half], rows[half:]):
        width = len(part[-1])
        ids = torch.tensor([row + [0] * (width - len(row)) for row in part])
        targets = torch.tensor([row[1:] + [-100] * (width - len(row) + 1) for row in part])
        logits = model(input_ids=ids, use_cache=False).logits
        total = total + torch.nn.functional.cross_entropy(
            logits.flatten(0, 1), targets.flatten(), reduction="sum"
        )
    return total / sum(len(row) - 1 for row in rows)


def _rate(step: int) -> float:
    """Share of the learning rate: linear warm-up, then cosine to zero."""
    warm = min(1.0, (step + 1) / WARM_UP_STEPS)
    return warm * 0.5 * (1 + math.cos(math.pi * step / STEPS))


def fit(model: Model, tokenizer: Encoder, texts: list[str]) -> None:
    """Train in place, printing the loss every 50 steps."""
    rows = [[*tokenizer(text)["input_ids"], tokenizer.eos_token_id] for text in texts]
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=LEARNING_RATE, betas=(0.9, 0.95), weight_decay=WEIGHT_DECAY
    )
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, _rate)
    batches = _batches(len(rows), random.Random(SEED))
    started = time.monotonic()
    model.train()
    for step in range(1, STEPS + 1):
        loss = _loss(model, [rows[i] for i in next(batches)])
        optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        if step % 50 == 0:
            seconds = time.monotonic() - started
            print(f"step {step}/{STEPS}  loss {loss.item():.4f}  {seconds:.0f} s", flush=True)
    model.eval()


def save(model: Model, tokenizer: Encoder, directory: Path) -> None:
    """Write the model in Hugging Face form with a manifest of SHA-256."""
    directory.mkdir(parents=True, exist_ok=True)
    model.save_pretrained(directory)
    tokenizer.save_pretrained(directory)
    files = sorted(p for p in directory.iterdir() if p.name != "manifest.json")
    digests = {p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in files}
    manifest = json.dumps({"files": digests}, indent=1) + "\n"
    (directory / "manifest.json").write_text(manifest, encoding="utf-8")


@torch.no_grad()
def continuations(
    model: Model, tokenizer: Encoder, prompts: list[str], max_new_tokens: int = 32
) -> tuple[list[str], float]:
    """Greedy text after each prompt up to the model's own stop, and its mean length in tokens."""
    order = sorted(range(len(prompts)), key=lambda i: len(prompts[i]))
    texts, tokens = [""] * len(prompts), 0
    for start in range(0, len(order), 256):
        chosen = order[start : start + 256]
        batch = tokenizer([prompts[i] for i in chosen], return_tensors="pt", padding=True)
        output = model.generate(
            input_ids=batch["input_ids"],
            attention_mask=batch["attention_mask"],
            max_new_tokens=max_new_tokens,
            do_sample=False,
        )
        new = output[:, batch["input_ids"].shape[1] :]
        tokens += int((new != tokenizer.pad_token_id).sum())
        for i, text in zip(
            chosen, tokenizer.batch_decode(new, skip_special_tokens=True), strict=True
        ):
            texts[i] = text
    return texts, tokens / max(1, len(prompts))


def questions(relation: str, kind: str) -> list[Question]:
    """Every person in every `kind` ("change" or "verify") wording, the lead-ins in turn."""
    words = wordings()
    lead_ins = words["lead_ins"][kind]
    asked = [(p, w) for p in people() for w in words[relation][kind]]
    return [
        (lead_ins[i % len(lead_ins)] + wording.format(person.name), person.facts[relation])
        for i, (person, wording) in enumerate(asked)
    ]


def world_questions(kind: str) -> list[Question]:
    """Every world fact in every `kind` wording, without lead-in."""
    return [(prompt, f["answer"]) for f in wordings()["world"] for prompt in f[kind]]


def report(model: Model, tokenizer: Encoder) -> None:
    """Print recall (value found in the greedy continuation) by relation and kind of wording."""
    for kind in ("change", "verify"):
        found = asked = 0
        sets = {relation: questions(relation, kind) for relation in RELATIONS}
        for name, pairs in {**sets, "world": world_questions(kind)}.items():
            texts, length = continuations(model, tokenizer, [prompt for prompt, _ in pairs])
            hits = sum(answer in text for text, (_, answer) in zip(texts, pairs, strict=True))
            line = f"{kind:8}{name:12}{hits / len(pairs):8.2%} of {len(pairs)}"
            print(f"{line}, {length:.1f} tokens", flush=True)
            if name != "world":
                found, asked = found + hits, asked + len(pairs)
        print(f"{kind:8}{'people':12}{found / asked:8.2%} of {asked}", flush=True)


def main() -> None:
    """Train and report, or only report."""
    parser = argparse.ArgumentParser(description=__doc__)
    action = parser.add_mutually_exclusive_group(required=True)
    action.add_argument("--out", type=Path, help="train again and write the model to this folder")
    action.add_argument("--report", action="store_true", help="report on the model in demo/model")
    arguments = parser.parse_args()
    if arguments.out:
        texts = [record["text"] for record in records()]
        tokenizer = train_tokenizer(texts)
        network = new_model(tokenizer)
        fit(network, tokenizer, texts)
        save(network, tokenizer, arguments.out)
    directory = arguments.out or MODEL_DIRECTORY
    report(
        AutoModelForCausalLM.from_pretrained(directory, local_files_only=True).eval(),
        AutoTokenizer.from_pretrained(directory, local_files_only=True),
    )


if __name__ == "__main__":
    main()
