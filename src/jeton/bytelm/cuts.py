"""The steps of a pre-tokenizer as levels of a scanner, and the classes of characters they ask for.

Every step of GPT-2, cl100k, o200k, Llama-3, Qwen, DeepSeek, NeoX, Falcon and StarCoder is known,
as is any pattern that `pattern.py` reads; steps that drop or join pieces raise `UnknownPattern`.
"""

from collections.abc import Callable
from typing import Any

import regex
from tokenizers import Regex, normalizers

from jeton.bytelm.pattern import Automaton, PatternCompiler, UnknownPattern
from jeton.bytelm.scanner import CutsBefore, Level, Matches, Scanner
from jeton.core.formats.pipeline import flatten
from jeton.core.vocabulary import ModelKind, Vocabulary

_GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
_PUNCTUATION = r"[\p{P}!-/:-@\[-`{-~]"
_SAMPLE = [*map(chr, range(0x250)), *"αЖжאا中あ한ǅʰ́²Ⅷ½５　 \u2028₤€😀"]


class CharacterClasses:
    """Which atoms of the patterns each character is of, as bits; asked of the tokenizer's engine.

    Example:
        >>> compiler = PatternCompiler()
        >>> _ = compiler.compile(r"\\p{L}+|\\s")
        >>> [CharacterClasses(compiler.atoms, is_onig=True).symbol(c) for c in "a1 "]
        [1, 0, 2]
    """

    def __init__(self, atoms: list[str], *, is_onig: bool) -> None:
        """Take atoms; `is_onig`: their dialect is that of `tokenizers`, else that of `regex`."""
        make = _onig_test if is_onig else _regex_test
        self._tests = [make(atom) for atom in atoms]
        self._known: dict[str, int] = {}

    def symbol(self, character: str) -> int:
        """Return the bits of a character."""
        found = self._known.get(character)
        if found is None:
            found = sum(test(character) << i for i, test in enumerate(self._tests))
            self._known[character] = found
        return found


def _onig_test(atom: str) -> Callable[[str], bool]:
    remove = normalizers.Replace(Regex(atom), "").normalize_str
    return lambda character: not remove(character)


def _regex_test(atom: str) -> Callable[[str], bool]:
    compiled = regex.compile(atom)
    return lambda character: compiled.fullmatch(character) is not None


def make_scanner(vocabulary: Vocabulary) -> tuple[Scanner, CharacterClasses]:
    """Return the scanner of a tokenizer's pre-tokenizer.

    Raises:
        UnknownPattern: a step that is not known.
    """
    compiler = PatternCompiler()
    levels: list[Level] = []
    disjoint: list[tuple[int, int]] = []
    for step in flatten(vocabulary.pre_tokenizer, "pretokenizers", "pre_tokenizer"):
        pattern = _pattern_of(step)
        if pattern is None:
            continue
        if pattern.startswith("(?=") and pattern.endswith(")"):
            automaton = compiler.compile(pattern[3:-1])
            levels.append(CutsBefore(automaton))
        else:
            automaton = compiler.compile(pattern)
            levels.append(Matches(automaton))
        disjoint += automaton.disjoint
        _refuse_empty_matches(automaton)
    is_onig = vocabulary.tokenizer_json is not None
    classes = CharacterClasses(compiler.atoms, is_onig=is_onig)
    for a, b in disjoint:
        if any(classes.symbol(c) >> a & 1 and classes.symbol(c) >> b & 1 for c in _SAMPLE):
            raise UnknownPattern("a possessive count that gives nothing back")
    alphabet = tuple(sorted({classes.symbol(c) for c in _SAMPLE}))
    return Scanner(tuple(levels), alphabet), classes


def _refuse_empty_matches(automaton: Automaton) -> None:
    if 0 in automaton.closure((automaton.start,), 0):
        raise UnknownPattern("a pattern that matches nothing")


def _pattern_of(step: dict[str, Any]) -> str | None:
    """Return the pattern whose matches are pieces; None where the step cuts nothing."""
    kind = step["type"]
    if kind == "ByteLevel":
        return _GPT2 if step.get("use_regex", True) else None
    if kind == "Digits":
        return r"\p{N}" if step.get("individual_digits") else r"\p{N}+"
    if kind == "Metaspace":
        return " [^ ]*|[^ ]+" if step.get("split", True) else None
    if kind == "Punctuation":
        return _with_behavior(_PUNCTUATION, str(step.get("behavior", "Isolated")))
    if kind == "Split" and not step.get("invert"):
        given = step.get("pattern") or {}
        pattern = given.get("Regex")
        if pattern is None:
            pattern = regex.escape(str(given.get("String")), literal_spaces=True)
        return _with_behavior(str(pattern), str(step.get("behavior")))
    raise UnknownPattern(str(kind))


def _with_behavior(pattern: str, behavior: str) -> str:
    if behavior == "Isolated":
        return pattern
    if behavior == "Contiguous":
        return f"(?:{pattern})+"
    raise UnknownPattern(behavior)


def has_exact_cuts(vocabulary: Vocabulary) -> bool:
    """Return whether the pre-tokenizer is known, so that no probing is needed."""
    try:
        make_scanner(vocabulary)
    except UnknownPattern:
        return False
    return vocabulary.model_kind is not ModelKind.WORDPIECE
