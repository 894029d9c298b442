"""Reads what stands beside a tokenizer file: names and ids of its special tokens."""

import json
from pathlib import Path
from typing import Any

from jeton.core.formats.source import read_limited
from jeton.errors import TokenizerError

_NAME_KEYS = (
    "bos_token",
    "eos_token",
    "unk_token",
    "pad_token",
    "sep_token",
    "cls_token",
    "mask_token",
)
_USUAL_EOS = (
    "<|endoftext|>",
    "</s>",
    "<eos>",
    "<|end_of_text|>",
    "<|im_end|>",
    "<|eot_id|>",
    "[SEP]",
)
_USUAL_BOS = ("<s>", "<bos>", "<|begin_of_text|>", "[CLS]")


def read_names(folder: Path) -> dict[str, Any]:
    """Return special-token names and ids from the JSON files of a folder.

    Files that are missing or damaged say nothing: the tokenizer is whole without them.
    """
    names: dict[str, Any] = {}
    for file in ("config.json", "generation_config.json"):
        document = _load(folder / file)
        names.update({k: document[k] for k in ("eos_token_id", "bos_token_id") if k in document})
    for file in ("special_tokens_map.json", "tokenizer_config.json"):
        document = _load(folder / file)
        for key in _NAME_KEYS:
            content = _content(document.get(key))
            if content is not None:
                names[key] = content
        more = document.get("additional_special_tokens")
        if isinstance(more, list):
            found = [content for one in more if (content := _content(one)) is not None]
            names["additional_special_tokens"] = found
    return names


def special_names(names: dict[str, Any]) -> frozenset[str]:
    """Return every content that the names call special."""
    single = {names[key] for key in _NAME_KEYS if key in names}
    return frozenset(single | set(names.get("additional_special_tokens", ())))


def find_special_id(
    which: str, names: dict[str, Any], special_tokens: dict[str, int], vocab_size: int
) -> int | None:
    """Return the id of the "eos" or "bos" token, best effort.

    The name in tokenizer_config.json decides, then the id in generation_config.json, then the
    usual names.
    """
    name = names.get(f"{which}_token")
    if name in special_tokens:
        return special_tokens[name]
    token_id = names.get(f"{which}_token_id")
    if isinstance(token_id, list) and token_id:
        token_id = token_id[0]
    if type(token_id) is int and 0 <= token_id < vocab_size:
        return token_id
    usual = _USUAL_EOS if which == "eos" else _USUAL_BOS
    return next((special_tokens[one] for one in usual if one in special_tokens), None)


def _load(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    try:
        document = json.loads(read_limited(path))
    except (TokenizerError, ValueError, RecursionError):
        return {}
    return document if isinstance(document, dict) else {}


def _content(value: object) -> str | None:
    if isinstance(value, dict):
        value = value.get("content")
    return value if isinstance(value, str) else None
