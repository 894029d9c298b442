"""The vocabulary that a model is moved onto, as a tokenizer folder; and what is wrong with one."""

import json
import shutil
import warnings
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np

from jeton.core.run import disk_errors
from jeton.core.vocabulary import TokenKind, Vocabulary, load_vocabulary
from jeton.errors import ConfigError, InputError, TokenizerError, TokenizerMismatchError
from jeton.learn.byte_level import added_entries, fresh_document
from jeton.learn.contract import LearnedVocabulary
from jeton.learn.export import BaseTokenizer, export_tokenizer
from jeton.learn.prune import prune_vocabulary
from jeton.learn.registry import LEARNERS
from jeton.lm.load import STARTERS, LanguageModel
from jeton.retrofit.moves.config import MoveConfig
from jeton.retrofit.texts import Texts
from jeton.starter import starter_path

_FILES = (
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "chat_template.jinja",
)
_SHOWN = 40


def make_destination(
    config: MoveConfig, source: LanguageModel, texts: Texts, folder: Path
) -> dict[str, Any]:
    """Write the destination's tokenizer and return what it is, in words and counts.

    Raises:
        ConfigError, InputError, TokenizerError: there is no such destination.
        TokenizerMismatchError: it cannot write every text.
    """
    with disk_errors(folder):
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
    how = _write(config, source, texts, folder)
    destination = replace(load_vocabulary(folder), name=config.to or "the destination")
    check_destination(source.vocabulary, destination, [*texts.held_out, *texts.general])
    known = {token for token in source.vocabulary.tokens if token}
    kept = sum(1 for token in destination.tokens if token in known)
    special = set(source.vocabulary.special_tokens) & set(destination.special_tokens)
    return {
        "how": how,
        "vocab_size": destination.vocab_size,
        "num_kept": kept + len(special),
        "num_new": destination.vocab_size - kept - len(special),
    }


def _write(config: MoveConfig, source: LanguageModel, texts: Texts, folder: Path) -> str:
    """Write the tokenizer folder of a move; return how it came about."""
    base = source.vocabulary
    if config.verb == "distill":
        _copy(_folder_of(source), folder)
        return "the student's own vocabulary"
    if config.verb == "transfer" and not is_made(config.to):
        _copy(tokenizer_folder(config.to), folder)
        return f"the vocabulary of {Path(config.to).name}"
    if config.verb == "prune":
        learned = prune_vocabulary(base, texts.train, config.vocab_size or None)
        how = f"{base.vocab_size - learned.vocab_size:,} tokens pruned"
    elif "extend" in (config.verb, config.to):
        learned, how = _extended(config, base, texts)
    elif config.to == "bytes":
        learned = byte_vocabulary(base)
        how = "the 256 bytes"
    else:
        learner = LEARNERS.create(config.to, config.options_for(config.to))
        size = config.vocab_size or base.vocab_size
        learned = learner.learn(texts.train, base=base, vocab_size=size)
        how = f"a vocabulary learned by {config.to}"
    export_tokenizer(learned, folder, base=cast(BaseTokenizer | None, source.tokenizer))
    return how


def _extended(config: MoveConfig, base: Vocabulary, texts: Texts) -> tuple[LearnedVocabulary, str]:
    """Return the source's vocabulary with more tokens."""
    more = config.num_tokens or max(1, round(config.growth * base.vocab_size))
    size = config.vocab_size or base.vocab_size + more
    learner = LEARNERS.create("extend", config.options_for("extend"))
    learned: LearnedVocabulary = learner.learn(texts.train, base=base, vocab_size=size)
    return learned, f"{size - base.vocab_size:,} tokens added"


def byte_vocabulary(base: Vocabulary) -> LearnedVocabulary:
    """Return the vocabulary of the 256 bytes and the base's special tokens, numbered from 0."""
    added = [entry for entry in added_entries(base, []) if entry["special"]]
    for new_id, entry in enumerate(added):
        entry["id"] = new_id
    tokens = [entry["content"].encode() for entry in added]
    tokens += [bytes([byte]) for byte in range(256)]
    splitter = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True}
    document = fresh_document(tokens, [], {**splitter, "use_regex": False}, None, added)
    return LearnedVocabulary(
        method="bytes",
        tokenizer_json=json.dumps(document, ensure_ascii=False),
        vocab_size=len(tokens),
        num_kept=len(tokens),
        num_new=0,
        num_bytes=0,
        bytes_per_token=1.0,
        source_bytes_per_token=None,
        seconds=0.0,
    )


def is_made(to: str) -> bool:
    """Whether a destination is made here, not taken from a folder."""
    return to == "bytes" or to in LEARNERS.names()


def _folder_of(lm: LanguageModel) -> Path:
    if lm.path is None:
        raise ConfigError(f"{lm.name} has no folder to take its tokenizer from")
    return lm.path


def tokenizer_folder(name: str) -> Path:
    """Return the folder, or the tokenizer.json, of a tokenizer that was asked for.

    Raises:
        InputError: there is none of this name.
    """
    path = starter_path(name) if name in STARTERS else Path(name).expanduser()
    if not path.exists():
        raise InputError(
            f"there is no tokenizer {name}",
            hint=f"give a folder, 'bytes', or one of {', '.join(LEARNERS.names())}",
        )
    return path


def _copy(given: Path, folder: Path) -> None:
    """Copy the tokenizer's files, and only those that are loaded without running any code."""
    file = given / "tokenizer.json" if given.is_dir() else given
    if file.name != "tokenizer.json" or not file.is_file():
        raise TokenizerError(
            f"{given} holds no tokenizer.json",
            hint="save it with AutoTokenizer.from_pretrained(...).save_pretrained(...)",
        )
    load_vocabulary(given)  # a damaged one is named by its own path
    with disk_errors(folder):
        for name in _FILES:
            if (file.parent / name).is_file():
                shutil.copyfile(file.parent / name, folder / name)
        if not (folder / "tokenizer_config.json").is_file():
            settings = {"tokenizer_class": "PreTrainedTokenizerFast"}
            (folder / "tokenizer_config.json").write_text(json.dumps(settings) + "\n")


def check_destination(source: Vocabulary, destination: Vocabulary, texts: Iterable[str]) -> None:
    """Refuse a destination that cannot write the texts; warn of one that may not write others.

    Raises:
        TokenizerMismatchError: a text has no exact encoding, or a token is special on one side and
            ordinary text on the other.
    """
    _check_special_tokens(source, destination)
    for text in texts:
        reason = destination.why_not_lossless(text)
        if reason is not None:
            hint = "give a tokenizer with all 256 bytes, such as --to bytes or --to bpe"
            if destination.normalizer is not None:
                hint = f"its normalizer ({destination.normalizer}) changes the text; {hint}"
            raise TokenizerMismatchError(
                f"{destination.name} cannot write {text[:_SHOWN]!r}... exactly: {reason}",
                hint=hint,
            )
    if not destination.has_all_bytes:
        warnings.warn(
            f"{destination.name} has no token for some bytes: text unlike yours may be lost; give "
            "a byte-level tokenizer to be safe (--to bpe)",
            stacklevel=2,
        )
    elif destination.normalizer is not None:
        warnings.warn(
            f"the normalizer of {destination.name} ({destination.normalizer}) may change text "
            "that is unlike yours",
            stacklevel=2,
        )


def _check_special_tokens(source: Vocabulary, destination: Vocabulary) -> None:
    clashes = _ordinary(source, destination.special_tokens)
    clashes += _ordinary(destination, source.special_tokens)
    if clashes:
        raise TokenizerMismatchError(
            f"special tokens clash: {', '.join(map(repr, clashes[:3]))} are special on one side "
            "and ordinary text on the other",
            hint="rename them in the destination's tokenizer.json",
        )
    if source.eos_token_id is not None and destination.eos_token_id is None:
        warnings.warn(
            f"{destination.name} names no end-of-text token: the model will not know where to "
            'stop; add "eos_token" to its tokenizer_config.json',
            stacklevel=2,
        )


def _ordinary(vocabulary: Vocabulary, names: Sequence[str] | dict[str, int]) -> list[str]:
    """Return the names that are ordinary tokens of a vocabulary."""
    text = np.flatnonzero(vocabulary.kinds == TokenKind.TEXT).tolist()
    known = {vocabulary.tokens[i] for i in text}
    return [name for name in names if name.encode() in known and len(name) > 1]
