"""Reads the normalizer, pre-tokenizer and decoder of a tokenizer.json into plain facts.

The bytes of a token follow from the decoder's steps alone; `decode([id])` would lose leading
spaces, join word pieces and replace halves of characters.
"""

import re
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import regex

from jeton.core.encode import byte_level_to_bytes
from jeton.core.formats.source import StartRule
from jeton.errors import TokenizerError

BYTE_FALLBACK = re.compile(r"<0x([0-9A-Fa-f]{2})>")
MAX_DEPTH = 50  # published pipelines nest two deep

_NORMALIZER_WORDS = {
    "NFC": "NFC",
    "NFD": "NFD",
    "NFKC": "NFKC",
    "NFKD": "NFKD",
    "Lowercase": "lowercase",
    "StripAccents": "strip accents",
    "Strip": "strip white space at the ends",
    "Nmt": "NMT white space",
    "Precompiled": "SentencePiece character map",
}

Step = Callable[[str], str | bytes]


def flatten(part: object, children: str, where: str, depth: int = 0) -> list[dict[str, Any]]:
    """Return the steps of a pipeline part, with nested sequences laid out in a row.

    Args:
        part: The JSON value, None for an absent part.
        children: Key of the list in a Sequence ("normalizers", "pretokenizers", "decoders").
        where: What it is, for messages.
        depth: Nesting so far.
    Raises:
        TokenizerError: it is not made of objects with a "type", or nests too deep.
    """
    if part is None:
        return []
    if not isinstance(part, dict) or not isinstance(part.get("type"), str):
        raise TokenizerError(f'{where} must be an object with a "type", found {_kind(part)}')
    if part["type"] != "Sequence":
        return [part]
    inner = part.get(children)
    if not isinstance(inner, list) or depth > MAX_DEPTH:
        raise TokenizerError(
            f'{where}: a Sequence needs a list "{children}", at most {MAX_DEPTH} deep'
        )
    return [step for one in inner for step in flatten(one, children, where, depth + 1)]


def is_space_mapping(step: dict[str, Any]) -> bool:
    """Tell whether a normalizer only writes spaces as another character, or prepends one."""
    if step["type"] in ("Prepend", "ByteLevel"):
        return True
    return (
        step["type"] == "Replace"
        and step.get("pattern") == {"String": " "}
        and step.get("content") == "▁"
    )


def describe_normalizer(steps: Iterable[dict[str, Any]]) -> str | None:
    """Return the normalizers in words, None when bytes stay as they are."""
    words = [describe_step(step) for step in steps if not is_space_mapping(step)]
    return " + ".join(words) or None


def describe_step(step: dict[str, Any]) -> str:
    """Return one normalizer in words."""
    kind = step["type"]
    if kind == "BertNormalizer":
        lowercase = step.get("lowercase") is True
        strips = step.get("strip_accents") is True or (
            step.get("strip_accents") is None and lowercase
        )
        parts = [
            "clean control characters" if step.get("clean_text") is True else "",
            "space out CJK" if step.get("handle_chinese_chars") is True else "",
            "strip accents" if strips else "",
            "lowercase" if lowercase else "",
        ]
        return " + ".join(part for part in parts if part) or "BertNormalizer"
    if kind == "Replace":
        pattern = step.get("pattern")
        shown = next(iter(pattern.values()), "") if isinstance(pattern, dict) else pattern
        return f"replace {shown!r} by {step.get('content')!r}"
    return str(_NORMALIZER_WORDS.get(kind, kind))


def find_start_rule(
    normalizers: list[dict[str, Any]], pre_tokenizers: list[dict[str, Any]], joins_words: bool
) -> StartRule:
    """Return which space the pipeline puts before a text."""
    if any(step["type"] == "Prepend" and step.get("prepend") in ("▁", " ") for step in normalizers):
        return StartRule.DUMMY_SPACE_ALWAYS
    for step in pre_tokenizers:
        if step["type"] == "Metaspace":
            scheme = step.get("prepend_scheme", "always")
            if step.get("add_prefix_space") is False or scheme == "never":
                return StartRule.NONE
            if scheme == "first":
                return StartRule.DUMMY_SPACE_FIRST
            return StartRule.DUMMY_SPACE_UNLESS_SPACE
        if step["type"] == "ByteLevel" and step.get("add_prefix_space") is True:
            return StartRule.DUMMY_SPACE_UNLESS_SPACE
    return StartRule.WORD_SPACE if joins_words else StartRule.NONE


class TokenDecoder:
    """The decoder's steps as a function from one token's content to its bytes.

    Attributes:
        is_byte_level: Contents are written in the byte-level alphabet.
        has_byte_fallback: `<0xNN>` stands for one byte.
        joins_words: Words are joined by spaces, so a word's first token carries one.
    """

    def __init__(self, steps: list[dict[str, Any]], pre_tokenizers: list[dict[str, Any]]) -> None:
        kinds = [step["type"] for step in steps]
        if not steps:  # no decoder: read it off the pre-tokenizer
            steps = [step for step in pre_tokenizers if step["type"] in ("ByteLevel", "Metaspace")]
            kinds = [step["type"] for step in steps]
        self.is_byte_level = "ByteLevel" in kinds
        self.has_byte_fallback = "ByteFallback" in kinds
        self.joins_words = not steps or "WordPiece" in kinds
        self._steps = list(self._compile(steps)) if steps else [lambda token: " " + token]

    def __call__(self, content: str) -> bytes:
        """Return the bytes of one token.

        Raises:
            TokenizerError: the content has no UTF-8 form.
        """
        value: str | bytes = content
        try:
            for step in self._steps:
                if isinstance(value, bytes):
                    break
                value = step(value)
            return value if isinstance(value, bytes) else value.encode()
        except UnicodeEncodeError as error:
            raise TokenizerError(
                f"token {content!a} holds half a surrogate pair, which has no bytes",
                hint="the file is damaged; fetch it again",
            ) from error

    def _compile(self, steps: list[dict[str, Any]]) -> Iterator[Step]:
        is_fused = False
        for step in steps:
            kind = step["type"]
            if kind == "Fuse":
                is_fused = True
            elif kind == "ByteLevel":
                yield byte_level_to_bytes
            elif kind == "ByteFallback":
                yield _read_byte_fallback
            elif kind == "Replace":
                yield _compile_replace(step)
            elif kind == "Metaspace":
                yield _replacer(_string(step, "replacement", "▁"), " ")
            elif kind == "WordPiece":
                yield _word_piece(_string(step, "prefix", "##"))
            elif kind == "BPEDecoder":
                yield _replacer(_string(step, "suffix", "</w>"), " ")
            elif kind == "Strip":
                if not is_fused:  # after Fuse it strips the text's ends: the start rule's business
                    yield _compile_strip(step)
            else:
                raise TokenizerError(
                    f"decoder {kind!r} gives no fixed bytes per token; known are ByteLevel, "
                    "ByteFallback, Replace, Metaspace, WordPiece, BPEDecoder, Strip and Fuse"
                )


def _read_byte_fallback(token: str) -> str | bytes:
    match = BYTE_FALLBACK.fullmatch(token)
    return bytes([int(match[1], 16)]) if match else token


def _replacer(old: str, new: str) -> Step:
    return (lambda token: token.replace(old, new)) if old else (lambda token: token)


def _word_piece(prefix: str) -> Step:
    def step(token: str) -> str:
        return token[len(prefix) :] if prefix and token.startswith(prefix) else " " + token

    return step


def _compile_replace(step: dict[str, Any]) -> Step:
    content = _string(step, "content", "")
    pattern = step.get("pattern")
    if isinstance(pattern, dict) and isinstance(pattern.get("String"), str):
        return _replacer(pattern["String"], content)
    if isinstance(pattern, dict) and isinstance(pattern.get("Regex"), str):
        try:
            compiled = regex.compile(pattern["Regex"])
        except regex.error as error:
            raise TokenizerError(f"decoder Replace: bad pattern {pattern['Regex']!r}") from error
        return lambda token: compiled.sub(lambda _: content, token)
    raise TokenizerError(f'decoder Replace needs a pattern "String" or "Regex", found {pattern!r}')


def _compile_strip(step: dict[str, Any]) -> Step:
    character = _string(step, "content", " ")
    start, stop = step.get("start", 0), step.get("stop", 0)
    if type(start) is not int or type(stop) is not int:
        raise TokenizerError("decoder Strip: start and stop must be whole numbers")

    def strip(token: str) -> str:
        for _ in range(start):
            if not character or not token.startswith(character):
                break
            token = token.removeprefix(character)
        for _ in range(stop):
            if not character or not token.endswith(character):
                break
            token = token.removesuffix(character)
        return token

    return strip


def _string(step: dict[str, Any], key: str, default: str) -> str:
    value = step.get(key, default)
    if not isinstance(value, str):
        raise TokenizerError(f"{step['type']}: {key!r} must be a string, found {_kind(value)}")
    return value


def _kind(value: object) -> str:
    names = {dict: "an object", list: "a list", str: "a string", type(None): "nothing"}
    return names.get(type(value), f"a {type(value).__name__}")
