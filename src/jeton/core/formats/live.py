"""Reads live tokenizer objects by what they offer; none of their libraries is imported here."""

from pathlib import Path
from typing import Any

from jeton.core.formats import sentencepiece, sidecar, tiktoken
from jeton.core.formats.source import Parts
from jeton.core.formats.tokenizer_json import read_tokenizer_json
from jeton.errors import TokenizerError

_SINGLE = ("bos_token", "eos_token", "unk_token", "pad_token", "sep_token", "cls_token")


def read_live(tokenizer: Any) -> tuple[Parts, dict[str, Any]]:
    """Return the parts of a live tokenizer, and the names of its special tokens.

    Known are tokenizers of transformers, `tokenizers.Tokenizer`, `tiktoken.Encoding` and
    `sentencepiece.SentencePieceProcessor`.

    Raises:
        TokenizerError: it is none of these.
    """
    names = _names(tokenizer)
    name = str(getattr(tokenizer, "name_or_path", "") or type(tokenizer).__name__)
    backend = getattr(tokenizer, "backend_tokenizer", tokenizer)
    if callable(getattr(backend, "to_str", None)):
        special = sidecar.special_names(names)
        return read_tokenizer_json(backend.to_str(), name, special), names
    ranks = getattr(tokenizer, "_mergeable_ranks", None)
    if isinstance(ranks, dict):
        special_tokens = tokenizer._special_tokens
        return tiktoken.read_ranks(ranks, tokenizer._pat_str, special_tokens, tokenizer.name), names
    processor = getattr(tokenizer, "sp_model", tokenizer)
    if callable(getattr(processor, "serialized_model_proto", None)):
        return sentencepiece.read_model_proto(processor.serialized_model_proto(), name), names
    file = getattr(tokenizer, "vocab_file", None)
    if isinstance(file, str) and file.endswith(".model") and Path(file).is_file():
        return sentencepiece.read_sentencepiece(Path(file)), names
    raise TokenizerError(
        f"a {type(tokenizer).__name__} is no tokenizer that can be read",
        hint="give a path, a fast tokenizer of transformers, or a tokenizers.Tokenizer",
    )


def _names(tokenizer: Any) -> dict[str, Any]:
    names: dict[str, Any] = {}
    for key in _SINGLE:
        content = getattr(tokenizer, key, None)
        if isinstance(content, str):
            names[key] = content
    more = getattr(tokenizer, "all_special_tokens", None)
    if isinstance(more, list):
        names["additional_special_tokens"] = [str(one) for one in more]
    return names
