"""Write a learned vocabulary as a folder that `transformers.AutoTokenizer` loads unmodified."""

import json
from pathlib import Path
from typing import Any, Protocol

from jeton.core.run import disk_errors, write_atomically
from jeton.errors import ConfigError
from jeton.learn.contract import LearnedVocabulary

_CLASS = "PreTrainedTokenizerFast"
_SPECIAL_NAMES = (
    "bos_token",
    "eos_token",
    "unk_token",
    "pad_token",
    "sep_token",
    "cls_token",
    "mask_token",
)
# Without a base, the first of these that the vocabulary has ends a text.
_END_NAMES = ("<|endoftext|>", "</s>", "<|end_of_text|>", "<eos>")


class BaseTokenizer(Protocol):
    """What is read of a live tokenizer of `transformers`."""

    special_tokens_map: dict[str, Any]
    chat_template: Any
    model_max_length: int


def export_tokenizer(
    learned: LearnedVocabulary, folder: Path, *, base: BaseTokenizer | Path | str | None = None
) -> Path:
    """Write tokenizer.json and tokenizer_config.json.

    Args:
        learned: What to write.
        folder: Made when missing; files of these names are replaced.
        base: Live tokenizer or folder whose special tokens, chat template and length are kept.
    Returns:
        The folder.
    Raises:
        DiskFullError: the folder cannot be written.
    """
    document = json.loads(learned.tokenizer_json)
    known = {entry["content"] for entry in document.get("added_tokens", [])}
    if isinstance(base, (str, Path)):
        config = _from_folder(Path(base))
    else:
        config = _from_live(base) if base is not None else {}
    config = {
        key: value
        for key, value in config.items()
        if key not in _SPECIAL_NAMES or _content(value) in known
    }
    if not any(name in config for name in _SPECIAL_NAMES):
        end = next((name for name in _END_NAMES if name in known), None)
        config |= {"eos_token": end} if end else {}
    config |= {"tokenizer_class": _CLASS, "clean_up_tokenization_spaces": False}
    config |= {"backend": "tokenizers"}
    template = config.pop("chat_template", None)
    with disk_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
    write_atomically(folder / "tokenizer.json", learned.tokenizer_json)
    write_atomically(folder / "tokenizer_config.json", json.dumps(config, indent=2) + "\n")
    if isinstance(template, str):
        write_atomically(folder / "chat_template.jinja", template)
    return folder


def _content(token: Any) -> Any:
    return token.get("content") if isinstance(token, dict) else token


def _from_live(base: BaseTokenizer) -> dict[str, Any]:
    config: dict[str, Any] = {
        name: str(token)
        for name, token in base.special_tokens_map.items()
        if name in _SPECIAL_NAMES
    }
    if isinstance(base.chat_template, str):
        config["chat_template"] = base.chat_template
    if base.model_max_length < 1 << 40:  # transformers writes 1e30 for "not known"
        config["model_max_length"] = int(base.model_max_length)
    return config


def _from_folder(folder: Path) -> dict[str, Any]:
    """Read the parts of a tokenizer_config.json that belong to the text, not to the old class."""
    config: dict[str, Any] = {}
    path = folder / "tokenizer_config.json"
    if path.is_file():
        try:
            stored = json.loads(path.read_text(encoding="utf-8"))
        except (json.JSONDecodeError, UnicodeDecodeError) as error:
            raise ConfigError(f"{path} is damaged: {error}") from error
        kept = (*_SPECIAL_NAMES, "chat_template", "model_max_length", "padding_side")
        config = {name: stored[name] for name in kept if stored.get(name) is not None}
        config |= {n: _content(config[n]) for n in _SPECIAL_NAMES if n in config}
    template = folder / "chat_template.jinja"
    if template.is_file():
        config["chat_template"] = template.read_text(encoding="utf-8")
    return config
