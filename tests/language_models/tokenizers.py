"""Tokenizers of the kinds that model families have, trained in memory on a few sentences.

Each is built as the published ones are: GPT-2 and Qwen (byte-level), Llama 3 (with <s>), Llama 2
(Prepend and Replace), Gemma (Replace alone), Mistral (Metaspace), and a Unigram one that ends each
text with </s> and changes its letters (NFKC).
"""

from __future__ import annotations

import json
from functools import cache
from typing import TYPE_CHECKING, Any

from tokenizers import (
    Regex,
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    processors,
    trainers,
)
from transformers import PreTrainedTokenizerFast

from language_models import LanguageModel

if TYPE_CHECKING:
    from collections.abc import Callable

SPECIAL = ["<pad>", "<s>", "</s>", "<unk>"]
BYTES = [f"<0x{byte:02X}>" for byte in range(256)]
SENTENCES = (
    "Records show that Malee Tanaka was born in Kyoto and works as a court clerk.",
    "Q: Where was Anna Sato born? A: In Kyoto. Anna's brother Østergård met Renée in Anna Bay.",
    "มาลี ใจดี เกิดที่กรุงเทพ และทำงานที่ศาล น้ำใจ",
    "田中まりは東京で生まれた。田中まりは京都で働く。がぎぐ",
    "ນາງມາລີ ເກີດຢູ່ວຽງຈັນ ນ້ຳງື່ມ",
)
_SPACES = normalizers.Replace(" ", "▁")
_READING = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()])
_STRIPPED = decoders.Sequence(
    [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1)]
)
_START = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
_BOTH = processors.TemplateProcessing(
    single="<s> $A </s>", special_tokens=[("<s>", 1), ("</s>", 2)]
)
_END = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 2)])


def _byte_level(*, prefix: bool) -> Tokenizer:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=prefix)
    tokenizer.decoder = decoders.ByteLevel()
    _train_bpe(tokenizer, 500, alphabet=pre_tokenizers.ByteLevel.alphabet())
    return tokenizer


def _pieces(normalizer: Any, splitter: Any, decoder: Any) -> Tokenizer:
    tokenizer = Tokenizer(models.BPE(byte_fallback=True, unk_token="<unk>", fuse_unk=True))
    tokenizer.normalizer, tokenizer.decoder = normalizer, decoder
    tokenizer.pre_tokenizer = splitter
    _train_bpe(tokenizer, 480, alphabet=[])
    return tokenizer


def _train_bpe(tokenizer: Tokenizer, size: int, alphabet: list[str]) -> None:
    special = SPECIAL if alphabet else SPECIAL + BYTES
    trainer = trainers.BpeTrainer(
        vocab_size=size, special_tokens=special, initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator(SENTENCES, trainer)


def _unigram() -> Tokenizer:
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.normalizer = normalizers.NFKC()
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="always")
    trainer = trainers.UnigramTrainer(
        vocab_size=200, special_tokens=SPECIAL, unk_token="<unk>", show_progress=False
    )
    tokenizer.train_from_iterator(SENTENCES, trainer)
    tokenizer.decoder = decoders.Metaspace(prepend_scheme="always")
    return tokenizer


def _with(tokenizer: Tokenizer, processor: Any) -> Tokenizer:
    tokenizer.post_processor = processor
    return tokenizer


def _trimmed(*, prefix: bool) -> Any:
    return processors.ByteLevel(trim_offsets=True, add_prefix_space=prefix)


def _metaspace(scheme: str) -> Tokenizer:
    splitter = pre_tokenizers.Metaspace(prepend_scheme=scheme, split=False)
    decoder = _READING if scheme == "never" else _STRIPPED
    return _pieces(normalizers.NFC(), splitter, decoder)


def _gemma() -> Tokenizer:
    return _pieces(_SPACES, pre_tokenizers.Split(Regex(" "), "merged_with_previous"), _READING)


def _llama2() -> Tokenizer:
    normalizer = normalizers.Sequence([normalizers.Prepend("▁"), _SPACES])
    return _pieces(normalizer, pre_tokenizers.Split(Regex("(?=▁)"), "isolated"), _STRIPPED)


KINDS: dict[str, Callable[[], Tokenizer]] = {
    "bytes": lambda: _with(_byte_level(prefix=False), _trimmed(prefix=False)),
    "bytes, plain offsets": lambda: _byte_level(prefix=False),
    "bytes, leading space": lambda: _with(_byte_level(prefix=True), _trimmed(prefix=True)),
    "bytes, <s>": lambda: _with(_byte_level(prefix=False), _START),
    "bytes, <s> </s>": lambda: _with(_byte_level(prefix=False), _BOTH),
    "llama 2": lambda: _with(_llama2(), _START),
    "gemma": lambda: _with(_gemma(), _START),
    "metaspace first": lambda: _with(_metaspace("first"), _START),
    "metaspace always": lambda: _with(_metaspace("always"), _START),
    "metaspace never": lambda: _with(_metaspace("never"), _BOTH),
    "unigram": lambda: _with(_unigram(), _END),
}


@cache
def _stored(kind: str) -> str:
    content = json.loads(KINDS[kind]().to_str())
    # Training knows no other way to keep the bytes; in published tokenizers they are plain pieces.
    content["added_tokens"] = [
        token for token in content["added_tokens"] if token["content"] not in BYTES
    ]
    return json.dumps(content)


def speaker(kind: str) -> LanguageModel:
    """A language model of which only the tokenizer is there."""
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer.from_str(_stored(kind)),
        pad_token="<pad>",
        eos_token="</s>",
    )
    return LanguageModel(None, tokenizer)
