"""Cut text into pretokens exactly as a tokenizer.json does, and count them.

A pipeline is read as stages; each stage maps {piece: count} to {smaller piece: count}, so that a
later stage sees each distinct piece once. Kinds of stages that are not known here go through the
`tokenizers` objects themselves.
"""

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import regex
from tokenizers import Tokenizer

from jeton.core.vocabulary import Vocabulary
from jeton.errors import ConfigError, TokenizerError

# The pattern of GPT-2, which ByteLevel applies when `use_regex` is on.
GPT2_PATTERN = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
# Words with one leading mark, up to three digits, punctuation with its line end, blank lines.
WORD_PATTERN = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
# Groups of three digits from the right; a number of more than 513 digits begins from the left.
RIGHT_DIGITS = r"\p{N}{1,3}(?=(?:\p{N}{3}){0,170}(?!\p{N}))|\p{N}{1,3}"
# The same, but a line end takes the indentation that follows along, for source code.
CODE_PATTERN = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
    r"| ?[^\s\p{L}\p{N}]+(?:[\r\n]+[ \t]*(?![ \t])(?=\S))?|\s*[\r\n]+[ \t]*(?=\S)|\s+(?!\S)|\s+"
)
# Across words, as in SuperBPE: digits by three, punctuation of two and more marks, runs of spaces
# but for the last one are pieces, and so is what lies between them.
ACROSS_PATTERN = r"\p{N}{1,3}| ?[^\s\p{L}\p{N}]{2,}[\r\n/]*| +(?!\S)"

_PLAIN_BYTE_LEVEL = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True}
# Patterns that have a compiled scanner: 0 is GPT-2's, else the most digits in one piece, and 100
# more for groups from the right; 200 is the pattern across words.
_SCANNED = {
    GPT2_PATTERN: 0,
    ACROSS_PATTERN: 200,
    WORD_PATTERN: 3,
    WORD_PATTERN.replace(r"\p{N}{1,3}", r"\p{N}{1,2}"): 2,
    WORD_PATTERN.replace(r"\p{N}{1,3}", r"\p{N}"): 1,
    WORD_PATTERN.replace(r"\p{N}{1,3}", RIGHT_DIGITS): 103,
}


@dataclass(frozen=True)
class _Split:
    """Matches of a pattern, and what lies between them unless gaps are dropped."""

    pattern: Any
    keeps_gaps: bool
    prefix_space: bool = False

    def apply(self, pieces: Mapping[str, int]) -> Counter[str]:
        found: Counter[str] = Counter()
        for piece, count in pieces.items():
            text = " " + piece if self.prefix_space and not piece.startswith(" ") else piece
            parts = _find(self.pattern, text) if self.pattern else [text]
            if self.keeps_gaps and self.pattern and sum(map(len, parts)) != len(text):
                parts = _with_gaps(self.pattern, text)
            if count == 1:
                found.update(parts)
            else:
                for part in parts:
                    found[part] += count
        return found


def _find(pattern: Any, text: str) -> list[str]:
    if pattern.groups:  # findall would return the groups instead of the matches
        return [match.group() for match in pattern.finditer(text)]
    found: list[str] = pattern.findall(text)
    return found


def _with_gaps(pattern: Any, text: str) -> list[str]:
    parts, end = [], 0
    for match in pattern.finditer(text):
        if match.start() > end:
            parts.append(text[end : match.start()])
        if match.end() > match.start():
            parts.append(match.group())
        end = match.end()
    return [*parts, text[end:]] if end < len(text) else parts


@dataclass(frozen=True)
class _Foreign:
    """Any other kind, by the `tokenizers` object; it works on text after ByteLevel-free stages."""

    spec: dict[str, Any]
    tokenizer: Any = field(compare=False)

    def apply(self, pieces: Mapping[str, int]) -> Counter[str]:
        found: Counter[str] = Counter()
        for piece, count in pieces.items():
            for part, _ in self.tokenizer.pre_tokenizer.pre_tokenize_str(piece):
                found[part] += count
        return found


@dataclass(frozen=True)
class Pretokenizer:
    """The normalizer and pre-tokenizer of a tokenizer.json as a counting function.

    Pretokens come out as text before the byte-level mapping, after any space replacement.
    """

    specs: tuple[str, ...]  # JSON of each stage, so that it can be sent to other processes
    normalizer: str = "null"

    @classmethod
    def from_tokenizer_json(cls, document: Mapping[str, Any]) -> "Pretokenizer":
        """Read the pipeline of a parsed tokenizer.json."""
        specs = tuple(json.dumps(spec) for spec in _flatten(document.get("pre_tokenizer")))
        return cls(specs, json.dumps(document.get("normalizer")))

    @classmethod
    def from_vocabulary(cls, vocabulary: Vocabulary) -> "Pretokenizer":
        """Read the pipeline of a vocabulary with a tokenizer.json."""
        return cls.from_tokenizer_json(json.loads(vocabulary.tokenizer_json or "{}"))

    @classmethod
    def from_pattern(cls, pattern: str) -> "Pretokenizer":
        """Return the pipeline that isolates the matches of one pattern."""
        compile_pattern(pattern)
        return cls((json.dumps(split_spec(pattern)),))

    def count(self, text: str) -> Counter[str]:
        """Return {pretoken: occurrences} of one document."""
        return self.bind()(text)

    @property
    def scanner_style(self) -> int | None:
        """Style of the compiled scanner that gives the same counts; None when there is none."""
        if self.normalizer != "null":
            return None
        specs = [json.loads(spec) for spec in self.specs]
        if any(spec.get("add_prefix_space") for spec in specs if spec["type"] == "ByteLevel"):
            return None
        if len(specs) == 2 and specs[1] == {**_PLAIN_BYTE_LEVEL, **specs[1], "use_regex": False}:
            specs.pop()
        if len(specs) != 1:
            return None
        if specs[0]["type"] == "ByteLevel":
            return 0 if specs[0].get("use_regex", True) else None
        for pattern, style in _SCANNED.items():
            if specs[0] == split_spec(pattern):
                return style
        return None

    def bind(self) -> "BoundPretokenizer":
        """Return the pipeline with its patterns compiled."""
        stages: list[_Split | _Foreign] = []
        for text in self.specs:
            spec = json.loads(text)
            stage = _stage(spec)
            if stage is not None:
                stages.append(stage)
        normalizer = None
        if self.normalizer != "null":
            normalizer = _foreign(normalizer=json.loads(self.normalizer)).normalizer
        return BoundPretokenizer(tuple(stages), normalizer)


@dataclass(frozen=True)
class BoundPretokenizer:
    """A pipeline ready to run; it cannot be sent to another process."""

    stages: tuple[_Split | _Foreign, ...]
    normalizer: Any

    def __call__(self, text: str) -> Counter[str]:
        """Return {pretoken: occurrences} of one document."""
        if self.normalizer is not None:
            text = self.normalizer.normalize_str(text)
        pieces: Counter[str] = Counter({text: 1}) if text else Counter()
        for stage in self.stages:
            pieces = stage.apply(pieces)
        return pieces


def split_spec(pattern: str) -> dict[str, Any]:
    """Return the tokenizer.json stage that isolates the matches of a pattern."""
    return {
        "type": "Split",
        "pattern": {"Regex": pattern},
        "behavior": "Isolated",
        "invert": False,
    }


def _flatten(spec: Any) -> list[dict[str, Any]]:
    if spec is None:
        return []
    if spec.get("type") == "Sequence":
        return [leaf for part in spec["pretokenizers"] for leaf in _flatten(part)]
    return [spec]


def _stage(spec: dict[str, Any]) -> _Split | _Foreign | None:
    """Return the counting stage of one pre-tokenizer, None when it cuts nothing."""
    kind = spec.get("type")
    if kind == "ByteLevel":
        prefix_space = bool(spec.get("add_prefix_space", True))
        pattern = compile_pattern(GPT2_PATTERN) if spec.get("use_regex", True) else None
        return _Split(pattern, True, prefix_space) if pattern or prefix_space else None
    if kind == "Digits":
        return _Split(
            compile_pattern(r"\p{N}" if spec.get("individual_digits") else r"\p{N}+"), True
        )
    if kind == "Split":
        given = spec.get("pattern", {})
        pattern = compile_pattern(
            given["Regex"] if "Regex" in given else regex.escape(given["String"])
        )
        if spec.get("behavior") == "Isolated":
            return _Split(pattern, True)
        if spec.get("behavior") == "Removed" and spec.get("invert"):
            return _Split(pattern, False)
    return _Foreign(spec, _foreign(pre_tokenizer=spec))


def _foreign(**parts: Any) -> Tokenizer:
    document = {"version": "1.0", "model": {"type": "BPE", "vocab": {}, "merges": []}, **parts}
    try:
        return Tokenizer.from_str(json.dumps(document))
    except BaseException as error:
        # The library raises a bare `Exception`; nothing narrower can be caught.
        if type(error) is not Exception:
            raise
        kinds = ", ".join(f"{name} {part.get('type')}" for name, part in parts.items())
        raise TokenizerError(f"tokenizers does not accept the {kinds}: {error}") from error


def compile_pattern(pattern: str) -> Any:
    """Return a compiled regular expression.

    Raises:
        ConfigError: it is none.
    """
    try:
        return regex.compile(pattern)
    except regex.error as error:
        raise ConfigError(
            f"the pre-tokenizer pattern {pattern!r} is not a regular expression: {error}"
        ) from error
