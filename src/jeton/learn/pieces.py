"""A vocabulary of scored pieces as a Unigram tokenizer.json over the byte-level alphabet."""

import time
from collections.abc import Sequence
from typing import Any

import numpy as np

from jeton.core.encode import bytes_to_byte_level
from jeton.errors import InputError
from jeton.learn.byte_level import fresh_document
from jeton.learn.contract import LearnedVocabulary, SizePoint
from jeton.learn.counts import PretokenCounts
from jeton.learn.fresh import Fresh
from jeton.learn.lattice import PieceTrie
from jeton.learn.packed import PackedCounts
from jeton.learn.results import to_text


def finish_pieces(
    method: str,
    fresh: Fresh,
    pieces: Sequence[bytes],
    scores: Sequence[float],
    counts: PretokenCounts,
    pre_tokenizer: dict[str, Any] | None,
    notes: tuple[str, ...] = (),
) -> LearnedVocabulary:
    """Return the vocabulary of added tokens, the 256 bytes and some pieces.

    Args:
        method: Name of the method.
        fresh: The start of the vocabulary.
        pieces: Bytes of every piece, the 256 bytes among them, best first.
        scores: Score of each piece.
        counts: What to measure on.
        pre_tokenizer: In the words of tokenizer.json.
        notes: What a reader should know.
    Raises:
        InputError: there are too few pieces for the size.
    """
    room = fresh.vocab_size - len(fresh.added)
    score_of = dict(zip(pieces, scores, strict=True))
    single = fresh.tokens[len(fresh.added) :]
    banned = {fresh.tokens[i] for i in fresh.banned}
    longer = [piece for piece in pieces if len(piece) > 1 and piece not in banned]
    if len(longer) + len(single) < room:
        reached = len(longer) + len(single) + len(fresh.added)
        raise InputError(
            f"{counts.num_bytes} bytes of text are too few for {fresh.vocab_size} tokens: "
            f"{method} finds {reached}",
            hint=f"give more text, or a vocab_size of at most {reached}",
        )
    kept = single + longer[: room - len(single)]
    kept_scores = np.array([score_of[piece] for piece in kept], dtype=np.float64)
    document = fresh_document(fresh.tokens, [], pre_tokenizer, fresh.source, fresh.added)
    entries = [[entry["content"], 0.0] for entry in fresh.added]
    entries += [
        [bytes_to_byte_level(piece), float(score)]
        for piece, score in zip(kept, kept_scores, strict=True)
    ]
    document["model"] = {
        "type": "Unigram",
        "unk_id": None,
        "vocab": entries,
        "byte_fallback": False,
    }
    num_tokens = int(PieceTrie(kept, kept_scores).uses(counts.packed()).sum())
    rate = counts.num_bytes / num_tokens
    num_kept = 0
    if fresh.source is not None:
        known = {*map(bytes, fresh.source.tokens)} - {b""}
        num_kept = len(known & {*kept}) + len(fresh.source.special_tokens)
    return LearnedVocabulary(
        method=method,
        tokenizer_json=to_text(document),
        vocab_size=fresh.vocab_size,
        num_kept=num_kept,
        num_new=fresh.vocab_size - num_kept,
        num_bytes=counts.num_bytes,
        bytes_per_token=rate,
        source_bytes_per_token=None,
        seconds=time.perf_counter() - fresh.began,
        curve=(SizePoint(fresh.vocab_size, rate),),
        notes=notes,
    )


def most_used(pieces: list[bytes], words: PackedCounts, size: int) -> list[bytes]:
    """Forget, a quarter at a time, what reading with the fewest tokens uses least."""
    while True:
        uses = PieceTrie(pieces, np.full(len(pieces), -1.0)).uses(words)
        order = sorted(range(len(pieces)), key=lambda i: (len(pieces[i]) > 1, -uses[i], i))
        num_single = sum(1 for piece in pieces if len(piece) == 1)
        if len(pieces) <= num_single + size:
            return [pieces[i] for i in order]
        kept = order[: max(num_single + size, len(pieces) * 3 // 4)]
        pieces = [pieces[i] for i in sorted(kept)]
