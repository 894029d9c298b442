"""Byte-level BPE in tokenizer.json: read a base for the merge engine, write what was learned."""

import copy
import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from jeton.core.encode import BYTE_ALPHABET, byte_level_to_bytes, bytes_to_byte_level
from jeton.core.formats.source import ModelKind, TokenKind
from jeton.core.vocabulary import Vocabulary
from jeton.errors import ConfigError, UnsupportedModelError
from jeton.learn.pretokenize import (
    CODE_PATTERN,
    GPT2_PATTERN,
    RIGHT_DIGITS,
    WORD_PATTERN,
    Pretokenizer,
    split_spec,
)

# Spans that a token may cover, by name; "source" stands for the base's own pre-tokenizer.
# Groups from the right look ahead over at most 510 digits, so that no number is too long for them.
DIGITS = {"single": r"\p{N}", "left": r"\p{N}{1,3}", "right": RIGHT_DIGITS}
PATTERNS = {"word": WORD_PATTERN, "code": CODE_PATTERN, "gpt2": GPT2_PATTERN}


def read_base(base: Vocabulary | Mapping[str, Any] | str | None) -> Vocabulary | None:
    """Return a vocabulary, given as such or as the content of a tokenizer.json."""
    if base is None or isinstance(base, Vocabulary):
        return base
    return Vocabulary.from_tokenizer_json(base)


def is_byte_level(vocabulary: Vocabulary) -> bool:
    """Whether a vocabulary is byte-level BPE with a tokenizer.json."""
    return (
        vocabulary.model_kind is ModelKind.BYTE_LEVEL_BPE and vocabulary.tokenizer_json is not None
    )


def check_byte_level(vocabulary: Vocabulary, method: str) -> None:
    """Refuse a base that is not byte-level BPE.

    Raises:
        UnsupportedModelError: it is of another kind.
    """
    if not is_byte_level(vocabulary):
        raise UnsupportedModelError(
            f"{method} needs a byte-level BPE tokenizer.json; {vocabulary.name} is "
            f"{vocabulary.model_kind.value}",
            hint="learn a vocabulary afresh with the method bpe",
        )


@dataclass(frozen=True)
class Start:
    """What an engine needs of a base vocabulary.

    Attributes:
        tokens: Bytes by id; those of special tokens stand for themselves.
        banned: Ids whose bytes must not arise as a product.
        rules: Merges in order: left id, right id, product id.
        byte_ids: Id of each byte, shape (256,), int32; -1 where there is none.
        takes_whole: Whether a pretoken that is a token is taken without merging.
    """

    tokens: list[bytes]
    banned: list[int]
    rules: list[tuple[int, int, int]]
    byte_ids: NDArray[np.int32]
    takes_whole: bool = False

    def whole(self, tokens: Sequence[bytes]) -> dict[bytes, int]:
        """Return the pretokens that are taken without merging, when `tokens` exist."""
        if not self.takes_whole:
            return {}
        banned = set(self.banned)
        return {token: i for i, token in enumerate(tokens) if token and i not in banned}


def start_from(vocabulary: Vocabulary) -> Start:
    """Return tokens and merges of a byte-level BPE vocabulary."""
    tokens = list(vocabulary.tokens)
    reserved = {**vocabulary.special_tokens, **vocabulary.added_tokens}
    for content, token_id in reserved.items():
        tokens[token_id] = byte_level_to_bytes(content)  # where a product's name would collide
    # Of a pair that is listed twice, the later rank counts, as in the tokenizers library.
    last = {(a, b): (a, b, c) for a, b, c in reversed(vocabulary.merges.tolist())}
    byte_ids = np.full(256, -1, dtype=np.int32)
    for token_id in np.flatnonzero(vocabulary.kinds == TokenKind.BYTE).tolist():
        byte_ids[vocabulary.tokens[token_id][0]] = token_id
    if byte_ids.min() < 0:  # one-byte tokens that are also text
        for token_id, data in enumerate(vocabulary.tokens):
            if len(data) == 1 and byte_ids[data[0]] < 0 and token_id not in reserved.values():
                byte_ids[data[0]] = token_id
    return Start(
        tokens,
        sorted(set(reserved.values())),
        list(last.values())[::-1],
        byte_ids,
        vocabulary.ignore_merges,
    )


def pre_tokenizer_for(
    spans: str, base: Vocabulary | None, digits: str = ""
) -> dict[str, Any] | None:
    """Return the pre-tokenizer, in the words of tokenizer.json, for a choice of spans.

    Args:
        spans: "source", "word", "code", "gpt2", "line", or a regular expression.
        base: The vocabulary that "source" and the digit rule of "line" are taken from.
        digits: How numbers are cut: "single", "left" or "right"; empty for as the spans do it.
    Raises:
        ConfigError: the expression is empty, or there is no base to take it from.
    """
    if spans == "source":
        if base is None or not is_byte_level(base):
            raise ConfigError(
                "there is no byte-level base to take the pre-tokenizer from",
                hint=f"choose one of {', '.join(PATTERNS)}, line, or give a regular expression",
            )
        return _digits_first(digits, copy.deepcopy(base.pre_tokenizer))
    if not spans:
        raise ConfigError("the pattern of the pre-tokenizer is empty")
    if spans == "line":
        pattern = line_pattern(3 if digits else digit_group(base))
    else:
        pattern = PATTERNS.get(spans, spans)
    is_within = bool(digits) and DIGITS["left"] in pattern
    if is_within:
        pattern = pattern.replace(DIGITS["left"], digit_pattern(digits))
    byte_level = {
        "type": "ByteLevel",
        "add_prefix_space": _has_prefix_space(base),
        "trim_offsets": True,
        "use_regex": False,
    }
    spec = {"type": "Sequence", "pretokenizers": [split_spec(pattern), byte_level]}
    return spec if is_within else _digits_first(digits, spec)


def digit_pattern(digits: str) -> str:
    r"""Return the pattern that cuts a number.

    Raises:
        ConfigError: there is no such way.
    Example:
        >>> import regex
        >>> [regex.findall(digit_pattern(way), "1234567") for way in ("left", "right")]
        [['123', '456', '7'], ['1', '234', '567']]
    """
    if digits not in DIGITS:
        raise ConfigError(
            f"digits must be one of {', '.join(DIGITS)}, got {digits!r}",
            hint="right cuts 1234567 into 1, 234 and 567",
        )
    return DIGITS[digits]


def _digits_first(digits: str, spec: dict[str, Any] | None) -> dict[str, Any] | None:
    """Return a pre-tokenizer before which numbers are cut."""
    if not digits:
        return spec
    stages = [split_spec(digit_pattern(digits))]
    if spec is not None:
        stages += spec["pretokenizers"] if spec.get("type") == "Sequence" else [spec]
    return {"type": "Sequence", "pretokenizers": stages}


def line_pattern(max_digits: int | None) -> str:
    r"""Return the pattern of lines: words are not kept apart, digits are, as the base does it.

    A piece is a line with its line end and the indentation of the next line.

    Example:
        >>> import regex
        >>> regex.findall(line_pattern(3), "if a:\n    b = 1234\n")
        ['if a:\n    ', 'b = ', '123', '4', '\n']
    """
    if max_digits is None:
        return r"[^\r\n]*[\r\n]+[ \t]*(?=\S)|[^\r\n]+|\s+"
    digits = r"\p{N}" if max_digits == 1 else rf"\p{{N}}{{1,{max_digits}}}"
    return rf"{digits}|[^\r\n\p{{N}}]*[\r\n]+[ \t]*(?=\S)|[^\r\n\p{{N}}]+|\s+"


def digit_group(base: Vocabulary | None) -> int | None:
    """Return the most digits that the base keeps in one piece; None when it sets no limit."""
    if base is None or base.tokenizer_json is None:
        return 3
    document = {"pre_tokenizer": base.pre_tokenizer}
    pieces = Pretokenizer.from_tokenizer_json(document).count("1" * 20)
    longest = max(len(piece.strip()) for piece in pieces)
    return longest if longest < 20 else None


def _has_prefix_space(base: Vocabulary | None) -> bool:
    def search(spec: Any) -> bool:
        if not isinstance(spec, dict):
            return False
        if spec.get("type") == "ByteLevel":
            return bool(spec.get("add_prefix_space", True))
        return any(search(part) for part in spec.get("pretokenizers", []))

    return base is not None and search(base.pre_tokenizer)


def extended_document(
    base: Vocabulary,
    tokens: Sequence[bytes],
    merges: Iterable[tuple[int, int]],
    pre_tokenizer: dict[str, Any] | None,
) -> dict[str, Any]:
    """Return the base's tokenizer.json with more tokens and merges.

    Args:
        base: Byte-level BPE.
        tokens: Bytes by id; those from `base.vocab_size` on are new.
        merges: Pairs of ids to put after the base's merges.
        pre_tokenizer: In place of the base's.
    """
    document: dict[str, Any] = json.loads(base.tokenizer_json or "{}")
    model = document["model"]
    for token_id in range(base.vocab_size, len(tokens)):
        model["vocab"][bytes_to_byte_level(tokens[token_id])] = token_id
    has_lists = not model["merges"] or isinstance(model["merges"][0], list)
    for left, right in merges:
        pair = [bytes_to_byte_level(tokens[left]), bytes_to_byte_level(tokens[right])]
        model["merges"].append(pair if has_lists else " ".join(pair))
    document["pre_tokenizer"] = pre_tokenizer
    return neutral(with_added_tokens(document))


def with_added_tokens(document: dict[str, Any]) -> dict[str, Any]:
    """Put the added tokens into the vocabulary, in place.

    The tokenizers library numbers those outside of it anew, from the number of other tokens on.
    """
    for entry in document.get("added_tokens") or []:
        document["model"]["vocab"].setdefault(entry["content"], entry["id"])
    return document


def fresh_document(
    tokens: Sequence[bytes],
    merges: Iterable[tuple[int, int]],
    pre_tokenizer: dict[str, Any] | None,
    base: Vocabulary | None,
    added: Sequence[dict[str, Any]],
) -> dict[str, Any]:
    """Return a tokenizer.json of byte-level BPE.

    Args:
        tokens: Bytes by id.
        merges: Pairs of ids in order.
        pre_tokenizer: In the words of tokenizer.json.
        base: Its normalizer and post-processor are taken over when it is byte-level.
        added: Added tokens with their ids, which are the first ones.
    """
    source: dict[str, Any] = {}
    if base is not None and is_byte_level(base):
        source = json.loads(base.tokenizer_json or "{}")
    ids = {entry["content"]: entry["id"] for entry in added}
    contents = {entry["id"]: entry["content"] for entry in added}
    names = [contents.get(i) or bytes_to_byte_level(token) for i, token in enumerate(tokens)]
    document = {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": list(added),
        "normalizer": source.get("normalizer"),
        "pre_tokenizer": pre_tokenizer,
        "post_processor": with_new_ids(source.get("post_processor"), ids),
        "decoder": {
            "type": "ByteLevel",
            "add_prefix_space": True,
            "trim_offsets": True,
            "use_regex": True,
        },
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": None,
            "continuing_subword_prefix": None,
            "end_of_word_suffix": None,
            "fuse_unk": False,
            "byte_fallback": False,
            "ignore_merges": False,
            "vocab": {name: i for i, name in enumerate(names)},
            "merges": [[names[left], names[right]] for left, right in merges],
        },
    }
    return neutral(document)


def with_new_ids(processor: Any, ids: Mapping[str, int]) -> Any:
    """Return a post-processor whose special tokens have their new ids; None where one is gone."""
    if not isinstance(processor, dict):
        return None
    result = copy.deepcopy(processor)
    if result.get("type") == "Sequence":
        parts = [with_new_ids(part, ids) for part in result.get("processors", [])]
        return {"type": "Sequence", "processors": [part for part in parts if part is not None]}
    for entry in result.get("special_tokens", {}).values():
        if any(token not in ids for token in entry["tokens"]):
            return None
        entry["ids"] = [ids[token] for token in entry["tokens"]]
    for key in ("sep", "cls"):
        if key in result:
            if result[key][0] not in ids:
                return None
            result[key][1] = ids[result[key][0]]
    return result


def neutral(document: dict[str, Any]) -> dict[str, Any]:
    """Return a document without stored padding and truncation, which would change counts."""
    return {**document, "truncation": None, "padding": None}


def added_entries(base: Vocabulary | None, special_tokens: Sequence[str]) -> list[dict[str, Any]]:
    """Return the added tokens of a fresh vocabulary, numbered from 0.

    Args:
        base: Its special and added tokens come first, in the order of their ids.
        special_tokens: More special tokens.
    Raises:
        ConfigError: a special token is empty, given twice, or is a byte of the alphabet.
    """
    entries: list[dict[str, Any]] = []
    if base is not None and base.tokenizer_json is not None:
        given = json.loads(base.tokenizer_json).get("added_tokens", [])
        entries = sorted((dict(entry) for entry in given), key=lambda entry: int(entry["id"]))
        # An added letter of the byte alphabet would hide that letter from the merges.
        entries = [e for e in entries if e["special"] or e["content"] not in BYTE_ALPHABET]
    elif base is not None:
        entries = [
            _special(content)
            for content, _ in sorted(base.special_tokens.items(), key=lambda item: item[1])
        ]
    twice = [token for token, count in Counter(special_tokens).items() if count > 1]
    if twice:
        raise ConfigError(f"the special token {twice[0]!r} is given twice", hint="give it once")
    known = {entry["content"] for entry in entries}
    entries += [_special(token) for token in special_tokens if token not in known]
    for new_id, entry in enumerate(entries):
        entry["id"] = new_id
        if not entry["content"] or entry["content"] in BYTE_ALPHABET:
            raise ConfigError(
                f"the special token {entry['content']!r} is empty or is also a byte of text",
                hint="choose special tokens such as <|endoftext|>",
            )
    return entries


def _special(content: str) -> dict[str, Any]:
    return {
        "id": 0,
        "content": content,
        "single_word": False,
        "lstrip": False,
        "rstrip": False,
        "normalized": False,
        "special": True,
    }
