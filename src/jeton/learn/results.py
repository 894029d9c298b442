"""From a merge engine to a `LearnedVocabulary`: order of bytes, rules, curve, checks."""

import json
import time
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from jeton.core.encode import byte_level_to_bytes, bytes_to_byte_level
from jeton.core.vocabulary import Vocabulary
from jeton.errors import InputError
from jeton.learn.byte_level import start_from
from jeton.learn.contract import LearnedVocabulary, SizePoint
from jeton.learn.counts import PretokenCounts
from jeton.learn.engine import MergeEngine, Merges, Words

NUM_CURVE_POINTS = 32


def byte_order(special_tokens: Sequence[str]) -> tuple[NDArray[np.int32], list[bytes]]:
    """Return the id of each byte and the first tokens of a fresh vocabulary.

    Special tokens come first, then the bytes in the order of their byte-level characters, which is
    the order that the `tokenizers` library gives them.

    Returns:
        Ids by byte, shape (256,), int32; tokens by id.
    """
    ordered = sorted(range(256), key=lambda byte: bytes_to_byte_level(bytes([byte])))
    byte_ids = np.zeros(256, dtype=np.int32)
    byte_ids[ordered] = np.arange(256, dtype=np.int32) + len(special_tokens)
    reserved = [byte_level_to_bytes(token) for token in special_tokens]
    return byte_ids, reserved + [bytes([byte]) for byte in ordered]


def unique_rules(merges: Merges) -> list[tuple[int, int, int]]:
    """Return the rules in order; of a pair that was learned twice the later rank counts."""
    last: dict[tuple[int, int], int] = {}
    rows = zip(merges.pairs.tolist(), merges.products.tolist(), strict=True)
    for (left, right), product in rows:
        last.pop((left, right), None)
        last[left, right] = product
    return [(left, right, product) for (left, right), product in last.items()]


def replayed(
    engine: MergeEngine, words: Words, rules: Sequence[tuple[int, int, int]]
) -> MergeEngine:
    """Return an engine that applied the final rules as an encoder does.

    The engine that learned is that already unless some token arose in two ways.
    """
    products = engine.merges().products
    if len(rules) == len(products) == len(np.unique(products)):
        return engine
    final = MergeEngine(words, engine.tokens(), rules=rules)
    final.replay()
    return final


def check_reached(is_reached: bool, reached: int, vocab_size: int, num_bytes: int) -> None:
    """Refuse a vocabulary that came out smaller than was asked for.

    Raises:
        InputError: the text has too few different pairs.
    """
    if not is_reached:
        raise InputError(
            f"{num_bytes} bytes of text are too few for {vocab_size} tokens: no pair is left to "
            f"merge after {reached}",
            hint=f"give more text, or a vocab_size of at most {reached}",
        )


def size_curve(engine: MergeEngine, num_bytes: int, first_size: int) -> tuple[SizePoint, ...]:
    """Return bytes per token on the learned text at some sizes up to the final one."""
    merges = engine.merges()
    if not len(merges):
        return ()
    sizes = np.maximum(np.maximum.accumulate(merges.products) + 1, first_size)
    points = np.unique(np.linspace(sizes[0], sizes[-1], NUM_CURVE_POINTS).astype(np.int64))
    rules = np.searchsorted(sizes, points, side="right") - 1
    return tuple(
        SizePoint(int(sizes[rule]), num_bytes / int(merges.num_tokens[rule]))
        for rule in np.unique(rules)
        if rule >= 0
    )


def base_bytes_per_token(vocabulary: Vocabulary, texts_counts: PretokenCounts) -> float:
    """Return bytes per token of a byte-level base on counts made with its own pre-tokenizer."""
    start = start_from(vocabulary)
    words = Words.from_packed(texts_counts.packed(), start.byte_ids, start.whole(start.tokens))
    engine = MergeEngine(words, start.tokens, banned=start.banned, rules=start.rules)
    engine.replay()
    return texts_counts.num_bytes / engine.num_tokens


def to_text(document: Mapping[str, Any]) -> str:
    """Return a tokenizer.json as text, the same for the same content."""
    return json.dumps(document, ensure_ascii=False, separators=(",", ":"))


def finish(
    method: str,
    document: Mapping[str, Any],
    engine: MergeEngine,
    counts: PretokenCounts,
    base: Vocabulary | None,
    began: float,
    *,
    source_bytes_per_token: float | None = None,
    first_size: int = 0,
    notes: tuple[str, ...] = (),
) -> LearnedVocabulary:
    """Put the result together; `began` is the start by `time.perf_counter`."""
    tokens = set(engine.tokens())
    num_kept = 0
    if base is not None:
        kept = {*map(bytes, base.tokens)} - {b""}
        num_kept = len(kept & tokens) + len(base.special_tokens)
    size = engine.vocab_size
    return LearnedVocabulary(
        method=method,
        tokenizer_json=to_text(document),
        vocab_size=size,
        num_kept=num_kept,
        num_new=size - num_kept,
        num_bytes=counts.num_bytes,
        bytes_per_token=counts.num_bytes / engine.num_tokens,
        source_bytes_per_token=source_bytes_per_token,
        seconds=time.perf_counter() - began,
        curve=size_curve(engine, counts.num_bytes, first_size),
        notes=notes,
    )
