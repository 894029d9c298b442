"""Shrink a vocabulary to what a text uses, and choose the size that pays.

Pruning takes away leaves, tokens that no other token is built from, the least used first
(Purason et al. 2025, https://arxiv.org/abs/2512.03989, leaf-based pruning).
"""

import heapq
import json
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from jeton.core.progress import NO_PROGRESS, Progress
from jeton.core.vocabulary import ModelKind, Vocabulary
from jeton.errors import ConfigError, InputError
from jeton.learn.byte_fallback import check_prunable, pruned_contents, start_from_contents
from jeton.learn.byte_level import Start, fresh_document, is_byte_level, read_base, start_from
from jeton.learn.contract import LearnedVocabulary, SizePoint
from jeton.learn.counts import check_rereadable, count_pretokens, in_shards
from jeton.learn.engine import MergeEngine, Words
from jeton.learn.pretokenize import Pretokenizer
from jeton.learn.results import base_bytes_per_token, finish, to_text


def prune_vocabulary(
    base: Vocabulary | Mapping[str, Any] | str,
    texts: Iterable[str],
    vocab_size: int | None = None,
    *,
    progress: Progress = NO_PROGRESS,
) -> LearnedVocabulary:
    """Return a smaller vocabulary for a text; ids are numbered anew in their old order.

    Special and added tokens and the 256 bytes always stay, and so does all that the merges of a
    token that stays are made of. Without a size the text keeps its encoding, token by token.

    Args:
        base: Byte-level BPE, or BPE or Unigram with byte fallback.
        texts: What the vocabulary is for.
        vocab_size: Ids that remain; None takes away only what the text never needs.
        progress: Where to report.
    Raises:
        ConfigError: the size is not below the base's, or is below what must stay.
        UnsupportedModelError: the base is of another kind.
        InputError: the texts are empty.
    """
    began = time.perf_counter()
    check_rereadable(texts)
    source = read_base(base)
    assert source is not None
    check_prunable(source)
    if not is_byte_level(source):
        return _prune_contents(source, texts, vocab_size, progress)
    document = json.loads(source.tokenizer_json or "{}")
    pretokenizer = Pretokenizer.from_tokenizer_json(document)
    counts = count_pretokens(texts, pretokenizer, progress=progress)
    start = start_from(source)
    words = Words.from_packed(counts.packed(), start.byte_ids, start.whole(start.tokens))
    engine = MergeEngine(words, start.tokens, banned=start.banned, rules=start.rules)
    engine.replay()
    kept = _kept_tokens(start, usage(engine, words), vocab_size)
    _check_size(vocab_size, len(kept), len(start.banned) + 256, source)
    new_id = {old: new for new, old in enumerate(kept)}
    rules = [
        (new_id[a], new_id[b], new_id[c])
        for a, b, c in start.rules
        if a in new_id and b in new_id and c in new_id
    ]
    tokens = [start.tokens[old] for old in kept]
    added = [
        {**entry, "id": new_id[int(entry["id"])]} for entry in document.get("added_tokens", [])
    ]
    pruned = fresh_document(
        tokens, [(a, b) for a, b, _ in rules], source.pre_tokenizer, source, added
    )
    pruned["decoder"] = document.get("decoder")
    pruned["model"]["ignore_merges"] = document["model"].get("ignore_merges", False)
    byte_ids = np.array([new_id.get(int(i), -1) for i in start.byte_ids], dtype=np.int32)
    final = MergeEngine(
        Words.from_packed(
            counts.packed(),
            byte_ids,
            {
                token: new_id[old]
                for token, old in start.whole(start.tokens).items()
                if old in new_id
            },
        ),
        tokens,
        banned=[new_id[i] for i in start.banned],
        rules=rules,
    )
    final.replay()
    return finish(
        "prune",
        pruned,
        final,
        counts,
        source,
        began,
        source_bytes_per_token=base_bytes_per_token(source, counts),
    )


def _prune_contents(
    source: Vocabulary, texts: Iterable[str], vocab_size: int | None, progress: Progress
) -> LearnedVocabulary:
    """Prune a vocabulary with byte fallback; its tokenizer itself says what the text needs."""
    began = time.perf_counter()
    start = start_from_contents(source)
    uses, num_bytes = _uses(source, texts, progress)
    if not num_bytes:
        raise InputError("the texts are empty", hint="give the text that the vocabulary is for")
    if source.model_kind is ModelKind.UNIGRAM:
        # The score of the unknown follows the lowest score, so that the token that has it stays.
        rows = json.loads(source.tokenizer_json or "{}")["model"]["vocab"]
        start.banned.append(min(range(len(rows)), key=lambda i: rows[i][1]))
    kept = _kept_tokens(start, uses, vocab_size)
    _check_size(vocab_size, len(kept), len({*start.banned, *start.byte_ids.tolist()}), source)
    document = to_text(pruned_contents(source, kept))
    after, _ = _uses(Vocabulary.from_tokenizer_json(document, source.name), texts, progress)
    assert vocab_size is not None or (after == uses[kept]).all()
    return LearnedVocabulary(
        method="prune",
        tokenizer_json=document,
        vocab_size=len(kept),
        num_kept=len(kept),
        num_new=0,
        num_bytes=num_bytes,
        bytes_per_token=num_bytes / int(after.sum()),
        source_bytes_per_token=num_bytes / int(uses.sum()),
        seconds=time.perf_counter() - began,
    )


def _uses(
    vocabulary: Vocabulary, texts: Iterable[str], progress: Progress
) -> tuple[NDArray[np.int64], int]:
    """Return how often texts use each id, shape (vocab_size,), int64, and their size in UTF-8."""
    uses, num_bytes = np.zeros(vocabulary.vocab_size, dtype=np.int64), 0
    for shard in progress.track(in_shards(texts), None, "counting", "shard"):
        ids = [token_id for text in vocabulary.encode_batch(shard) for token_id in text]
        uses += np.bincount(np.array(ids, dtype=np.int64), minlength=len(uses))
        num_bytes += sum(len(text.encode("utf-8", "surrogatepass")) for text in shard)
    return uses, num_bytes


def _check_size(vocab_size: int | None, reached: int, least: int, source: Vocabulary) -> None:
    if vocab_size is not None and (reached != vocab_size or vocab_size >= source.vocab_size):
        raise ConfigError(
            f"vocab_size {vocab_size} is not possible for pruning {source.vocab_size} tokens",
            hint=f"give {least} to {source.vocab_size - 1}",
        )


def usage(engine: MergeEngine, words: Words) -> NDArray[np.int64]:
    """Return how often each token occurs in the text, shape (vocab_size,), int64."""
    ids, word = engine.segmentation()
    uses = np.zeros(engine.vocab_size, dtype=np.int64)
    np.add.at(uses, ids[ids >= 0], words.counts[word[ids >= 0]])
    return uses


def _kept_tokens(start: Start, uses: NDArray[np.int64], vocab_size: int | None) -> list[int]:
    """Return the ids that stay: leaves go, the least used first, then the latest."""
    made_of = {product: (left, right) for left, right, product in start.rules}
    num_parents = np.zeros(len(start.tokens), dtype=np.int64)
    for left, right, _ in start.rules:
        num_parents[left] += 1
        num_parents[right] += 1
    rules_of: dict[int, list[tuple[int, int]]] = {}
    for left, right, product in start.rules:
        rules_of.setdefault(product, []).append((left, right))
    must_stay = {*start.banned, *start.byte_ids.tolist()}
    amount = uses.tolist()
    alive = {i for i, token in enumerate(start.tokens) if token}
    leaves = [(amount[i], -i) for i in alive if not num_parents[i] and i not in must_stay]
    heapq.heapify(leaves)
    while leaves and (vocab_size is None or len(alive) > vocab_size):
        used, negative = heapq.heappop(leaves)
        leaf = -negative
        if vocab_size is None and used:
            break
        alive.remove(leaf)
        for part in made_of.get(leaf, ()):
            amount[part] += used  # its text falls to its parts
        for pair in rules_of.get(leaf, []):
            for part in pair:
                num_parents[part] -= 1
                if not num_parents[part] and part not in must_stay and part in alive:
                    heapq.heappush(leaves, (amount[part], -part))
    return sorted(alive)


def choose_size(
    curve: Sequence[SizePoint], hidden_size: int, body_parameters: int
) -> tuple[SizePoint, tuple[float, ...]]:
    """Return the size at which a byte costs the fewest parameters, and the cost at each point.

    A forward pass reads the body and the output matrix once per token, so a byte costs
    (body + hidden * vocab_size) / bytes_per_token parameters. A greater vocabulary pays as long as
    this falls.

    Args:
        curve: Points of growing size.
        hidden_size: Width of the output matrix.
        body_parameters: Parameters besides the embeddings.
    Raises:
        ConfigError: the curve is empty or a number is not positive.
    Example:
        >>> curve = [SizePoint(1000, 3.0), SizePoint(2000, 3.6), SizePoint(64000, 4.0)]
        >>> choose_size(curve, 64, 1_000_000)[0].vocab_size
        2000
    """
    if not curve or hidden_size < 1 or body_parameters < 0:
        raise ConfigError(
            f"choosing a size needs a curve and positive numbers, got {len(curve)} points, "
            f"hidden_size {hidden_size}, body_parameters {body_parameters}"
        )
    costs = tuple(
        (body_parameters + hidden_size * point.vocab_size) / point.bytes_per_token
        for point in curve
    )
    return curve[costs.index(min(costs))], costs
