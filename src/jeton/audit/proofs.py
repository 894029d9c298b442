"""Proofs that no text produces a token, for tokens that a search did not bring out.

- The normalizer never writes one of its characters.
- No pretoken contains it (`jeton.audit.patterns`), or only a few do, and BPE cuts each otherwise.
- It ends inside of a character, and BPE lets nothing that could complete the character stand
  beside it (adjacent tokens must be such that BPE of the two together gives just the two).
- A byte of SentencePiece's fallback whose every character is a token.
- WordPiece: it holds a character that always stands alone.

Cost: paid for the few tokens that are still unknown.
"""

import json
import unicodedata
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from functools import cache
from typing import Any

import numpy as np
from tokenizers import Tokenizer

from jeton.audit.contexts import can_occur_in_text, completions, is_utf8
from jeton.audit.merges import UNBUILT, Meetings, run_bpe, symbols_of, text_merges
from jeton.audit.patterns import Automaton, build_automaton
from jeton.core.vocabulary import ModelKind, TokenKind, Vocabulary
from jeton.errors import UnsupportedModelError

_GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
_FORMS = ("NFC", "NFD", "NFKC", "NFKD")
_PER_CHARACTER = ("Lowercase", "StripAccents", "BertNormalizer", "Nmt", "Strip")
_MAX_PRETOKENS = 200


def prove_dead(vocabulary: Vocabulary, ids: Iterable[int]) -> dict[int, str]:
    """Return the reason for every id of which it can be proven that no text produces it."""
    left = list(ids)
    found: dict[int, str] = {}
    provers = (_by_isolation, _by_normalizer, _by_pattern, _by_fallback)
    for prover in provers:
        left = [i for i in left if i not in found]
        if left:
            found.update(prover(vocabulary, left))
    return found


def only_in_broken_bytes(vocabulary: Vocabulary, ids: Iterable[int]) -> list[int]:
    """Return ids of a longest-match tokenizer that a longer token always beats in UTF-8 text."""
    if vocabulary.model_kind is not ModelKind.LONGEST_MATCH:
        return []
    known = set(vocabulary.tokens)
    return [
        i
        for i in ids
        if not is_utf8(vocabulary.tokens[i])
        and all(
            vocabulary.tokens[i] + bytes([byte]) in known
            for byte in range(0x80, 0xC0)
            if can_occur_in_text(vocabulary.tokens[i] + bytes([byte]))
        )
        and not is_utf8(vocabulary.tokens[i].lstrip(bytes(range(0x80, 0xC0))))
    ]


def _by_normalizer(vocabulary: Vocabulary, ids: list[int]) -> Iterator[tuple[int, str]]:
    is_lost = _lost_characters(vocabulary)
    if is_lost is None:
        return
    for token_id in ids:
        for char in _text_of(vocabulary, token_id):
            if is_lost(char):
                yield token_id, f"the normalizer never writes {char!r} (U+{ord(char):04X})"
                break


def _lost_characters(vocabulary: Vocabulary) -> Callable[[str], bool] | None:
    """Return a test for characters that the normalizer never writes."""
    if vocabulary.tokenizer_json is None:
        return None
    document = json.loads(vocabulary.tokenizer_json)
    steps = _flat(document.get("normalizer"), "normalizers")
    kinds = [step["type"] for step in steps]
    if not kinds or any(kind not in _PER_CHARACTER for kind in kinds[1:]):
        return None  # a form after other steps may put together what they have taken apart
    if len(kinds) == 1 and kinds[0] in _FORMS:
        form = kinds[0]
        return cache(lambda char: not unicodedata.is_normalized(form, char))
    if kinds[0] not in (*_FORMS, *_PER_CHARACTER):
        return None
    normalize = _empty_engine(normalizer=document["normalizer"]).normalizer.normalize_str

    @cache
    def images() -> frozenset[str]:
        every = map(chr, (*range(0xD800), *range(0xE000, 0x110000)))
        return frozenset(normalize("\n".join(every)))  # nothing composes across a line end

    return cache(lambda char: char not in normalize(char) and char not in images())


def _by_pattern(vocabulary: Vocabulary, ids: list[int]) -> Iterator[tuple[int, str]]:
    """Prove by the pretokens in which a token may stand."""
    if vocabulary.model_kind is not ModelKind.BYTE_LEVEL_BPE:
        return
    is_possible = _possibility(vocabulary)
    for token_id in ids:
        if not is_possible(vocabulary.tokens[token_id]):
            yield token_id, "the pre-tokenizer cuts it in every text"


def find_pretokens(
    vocabulary: Vocabulary, ids: Iterable[int]
) -> tuple[dict[int, str], list[tuple[int, str]]]:
    """Look at tokens that only a few pretokens hold, such as the "'r" of "'re".

    Returns:
        The reason for every id that is in the encoding of none, and for the others texts to try.
    """
    reasons: dict[int, str] = {}
    texts: list[tuple[int, str]] = []
    whole = [i for i in ids if is_utf8(vocabulary.tokens[i])]
    if not whole or vocabulary.model_kind is not ModelKind.BYTE_LEVEL_BPE:
        return reasons, texts
    stages, ranks = _stages(vocabulary), _ranks(vocabulary)
    for token_id in whole:
        text = vocabulary.tokens[token_id].decode()
        for stage in stages if text else ():
            words = None
            if any(stage.covers(char) for char in text):
                words = stage.matches_with(text, _MAX_PRETOKENS)
            if words is None:
                continue
            holding = [w for w in words if token_id in _encode_pretoken(vocabulary, ranks, w)]
            texts += [(token_id, word) for word in holding]
            if not holding:
                shown = ", ".join(repr(word) for word in words[:4])
                reasons[token_id] = f"only {len(words)} pretokens hold it ({shown}), cut otherwise"
    return reasons, texts


def _encode_pretoken(
    vocabulary: Vocabulary, ranks: dict[tuple[int, int], int], word: str
) -> list[int]:
    data = word.encode()
    if vocabulary.ignore_merges and data in vocabulary.tokens:
        return [vocabulary.tokens.index(data)]
    symbols = [vocabulary.byte_ids[byte] for byte in data]
    return run_bpe(symbols, ranks, vocabulary.merges[:, 2])[0]


def _ranks(vocabulary: Vocabulary) -> dict[tuple[int, int], int]:
    rows = vocabulary.merges.tolist()
    return {(left, right): rank for rank, (left, right, _) in enumerate(rows)}


def _stages(vocabulary: Vocabulary) -> list[Automaton]:
    """Return the patterns that cut characters, before they are written as bytes."""
    stages = []
    for step in _flat(vocabulary.pre_tokenizer, "pretokenizers"):
        kind = step["type"]
        pattern = None
        if kind == "Split" and step["behavior"] == "Isolated" and not step.get("invert"):
            pattern = step["pattern"].get("Regex")
        elif kind == "ByteLevel" and step.get("use_regex", True):
            pattern = _GPT2
        if pattern is not None:
            with suppress(UnsupportedModelError):  # then nothing is proven by it
                stages.append(build_automaton(pattern))
        if kind == "ByteLevel":
            break
    return stages


def find_neighbours(
    vocabulary: Vocabulary, ids: Iterable[int]
) -> tuple[dict[int, str], list[tuple[int, str]]]:
    """Look for tokens that can complete the characters cut at a token's ends.

    Returns:
        The reason for every id that nothing completes, and for the others texts to try.
    """
    reasons: dict[int, str] = {}
    texts: list[tuple[int, str]] = []
    tokens = vocabulary.tokens
    cut = [i for i in ids if not is_utf8(tokens[i])]
    is_byte_level = vocabulary.model_kind is ModelKind.BYTE_LEVEL_BPE
    if not cut or not is_byte_level or not len(vocabulary.merges):
        return reasons, texts
    meetings = Meetings(text_merges(vocabulary), symbols_of(vocabulary), vocabulary.lengths)
    usable = np.asarray(vocabulary.kinds) <= TokenKind.BYTE
    usable &= meetings.rules.rule != UNBUILT
    inner = [i for i in np.flatnonzero(usable).tolist() if tokens[i] and not is_utf8(tokens[i])]
    is_possible = _possibility(vocabulary)
    for token_id in cut:
        token = tokens[token_id]
        joined: list[bytes] = []
        if _ends_inside(token):
            nexts = [i for i in inner if _continues(tokens[i][0])]
            stand = meetings.stand_together([token_id] * len(nexts), nexts)
            joined = [token + tokens[i] for i, holds in zip(nexts, stand, strict=True) if holds]
        else:
            fronts = [i for i in inner if _ends_inside(tokens[i]) or _is_middle(tokens[i])]
            stand = meetings.stand_together(fronts, [token_id] * len(fronts))
            joined = [tokens[i] + token for i, holds in zip(fronts, stand, strict=True) if holds]
        possible = [data for data in joined if can_occur_in_text(data) and is_possible(data)]
        if not possible:
            reasons[token_id] = "nothing that completes its cut character can stand beside it"
        for data in possible[:_MAX_PRETOKENS]:
            texts += [(token_id, text) for text in completions(data, 0, 4)]
    return reasons, texts


def _continues(byte: int) -> bool:
    return 0x80 <= byte < 0xC0


def _is_middle(token: bytes) -> bool:
    return all(map(_continues, token))


def _ends_inside(token: bytes) -> bool:
    """Return whether the last character is begun and not finished."""
    return not is_utf8(token.lstrip(bytes(range(0x80, 0xC0))))


def _cut_end(data: bytes) -> bytes:
    """Return the beginning of a character at the end of bytes."""
    starts = [i for i in range(1, min(3, len(data)) + 1) if data[-i] >= 0xC0]
    return data[-starts[0] :] if starts and _ends_inside(data[-starts[0] :]) else b""


@cache
def _completions_of(beginning: bytes) -> str:
    """Return all characters whose UTF-8 begins with the bytes; none for no bytes."""
    if not beginning:
        return ""
    size = 2 if beginning[0] < 0xE0 else 3 if beginning[0] < 0xF0 else 4
    missing = size - len(beginning)
    low, high = (beginning + bytes([end]) * missing for end in (0x80, 0xBF))
    first, last = (
        sum((byte & 0x3F) << 6 * (size - 1 - i) for i, byte in enumerate(data) if i)
        + ((data[0] & (0x7F >> size)) << 6 * (size - 1))
        for data in (low, high)
    )
    least = {2: 0x80, 3: 0x800, 4: 0x10000}[size]  # below, the bytes would be overlong
    codes = range(max(first, least), min(last, 0x10FFFF) + 1)
    return "".join(chr(code) for code in codes if not 0xD800 <= code < 0xE000)


def _possibility(vocabulary: Vocabulary) -> Callable[[bytes], bool]:
    """Return a test that fails for bytes whose whole characters no pretoken holds."""
    stages, is_lost = _stages(vocabulary), _lost_characters(vocabulary)

    @cache
    def is_possible(data: bytes) -> bool:
        text = data.decode(errors="ignore")
        if is_lost is not None and any(map(is_lost, text)):
            return False
        followers = _completions_of(_cut_end(data))
        return all(
            stage.can_contain(text, followers)
            for stage in stages
            if any(stage.covers(char) for char in text)
        )

    return is_possible


def _by_fallback(vocabulary: Vocabulary, ids: list[int]) -> Iterator[tuple[int, str]]:
    if vocabulary.model_kind not in (ModelKind.SENTENCEPIECE_BPE, ModelKind.UNIGRAM):
        return
    kinds = np.asarray(vocabulary.kinds)
    characters = {vocabulary.tokens[i] for i in np.flatnonzero(kinds == TokenKind.TEXT).tolist()}
    for token_id in ids:
        token = vocabulary.tokens[token_id]
        is_lead = kinds[token_id] == TokenKind.BYTE and 0xC2 <= token[0] < 0xE0
        if is_lead and all(token + bytes([byte]) in characters for byte in range(0x80, 0xC0)):
            yield token_id, "every character that begins with this byte is a token"


def _by_isolation(vocabulary: Vocabulary, ids: list[int]) -> Iterator[tuple[int, str]]:
    """Prove for WordPiece: characters that stand alone are in no longer and no inner piece."""
    if vocabulary.model_kind is not ModelKind.WORDPIECE or vocabulary.tokenizer_json is None:
        return
    document = json.loads(vocabulary.tokenizer_json)
    if (document.get("pre_tokenizer") or {}).get("type") != "BertPreTokenizer":
        return
    engine = _empty_engine(
        normalizer=document.get("normalizer"), pre_tokenizer=document["pre_tokenizer"]
    )

    @cache
    def stands_alone(char: str) -> bool:
        text = f"a{char}a"
        if engine.normalizer is not None:
            text = engine.normalizer.normalize_str(text)
        pieces = [piece for piece, _ in engine.pre_tokenizer.pre_tokenize_str(text)]
        return pieces == ["a", char, "a"]

    for token_id in ids:
        text = _text_of(vocabulary, token_id)
        word = text.removeprefix(" ")
        if len(word) == 1 and text.startswith(" "):
            continue
        for char in word:
            if stands_alone(char):
                yield token_id, f"the pre-tokenizer lets {char!r} stand alone"
                break


def _text_of(vocabulary: Vocabulary, token_id: int) -> str:
    """Return the whole characters of a token."""
    return vocabulary.tokens[token_id].decode(errors="ignore")


def _empty_engine(**steps: object) -> Tokenizer:
    """Return a tokenizer with these steps and no vocabulary."""
    document = {"version": "1.0", "model": {"type": "BPE", "vocab": {}, "merges": []}, **steps}
    return Tokenizer.from_str(json.dumps(document))


def _flat(step: dict[str, Any] | None, key: str) -> list[dict[str, Any]]:
    if step is None:
        return []
    if step.get("type") == "Sequence":
        return [inner for part in step[key] for inner in _flat(part, key)]
    return [step]
