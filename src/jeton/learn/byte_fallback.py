"""BPE over characters with byte fallback, as SentencePiece writes it, in a tokenizer.json.

Tokens are known to the merge engine by their content ("▁the"), not by their bytes: the letter "a"
and the byte <0x61> are two tokens. The words of a text are shorter than what such a tokenizer cuts,
which is often the whole text: they end before "▁" and between two digits, as long as no merge of
the base reaches across. What is learned within words cannot reach across either, as whether a place
is a cut depends on the two characters beside it only.
"""

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import regex

from jeton.core.formats.source import ModelKind, TokenKind
from jeton.core.vocabulary import Vocabulary
from jeton.errors import UnsupportedModelError
from jeton.learn.byte_level import Start, is_byte_level, neutral, with_added_tokens, with_new_ids
from jeton.learn.counts import PretokenCounts
from jeton.learn.engine import MergeEngine, Words

_CUTS = regex.compile(r"(?<=[^▁])(?=▁)|(?<=\p{N})(?=\p{N})")
_AFFIXES = ("continuing_subword_prefix", "end_of_word_suffix")
_KINDS = (ModelKind.SENTENCEPIECE_BPE, ModelKind.CHARACTER_BPE)


def has_byte_fallback(vocabulary: Vocabulary, *kinds: ModelKind) -> bool:
    """Whether characters without a token become bytes; the kinds are BPE unless they are given."""
    if vocabulary.model_kind not in (kinds or _KINDS) or vocabulary.tokenizer_json is None:
        return False
    model = json.loads(vocabulary.tokenizer_json)["model"]
    is_plain = not any(model.get(part) for part in _AFFIXES)
    return bool(model.get("byte_fallback")) and vocabulary.has_all_bytes and is_plain


def check_extendable(vocabulary: Vocabulary) -> None:
    """Refuse a base that no merges can be added to.

    Raises:
        UnsupportedModelError: it is no BPE over bytes, or over characters with byte fallback, or
            it takes whole words without merging or merges the byte tokens themselves.
    """
    if is_byte_level(vocabulary):
        return
    hint = "learn a vocabulary afresh with the method bpe"
    if not has_byte_fallback(vocabulary):
        raise UnsupportedModelError(
            "extend needs the tokenizer.json of a byte-level BPE, or of a BPE with byte fallback "
            f"and all 256 byte tokens; {vocabulary.name} is {vocabulary.model_kind.value}",
            hint=hint,
        )
    is_byte = vocabulary.kinds == TokenKind.BYTE
    if vocabulary.ignore_merges or is_byte[vocabulary.merges].any():
        raise UnsupportedModelError(
            f"{vocabulary.name} takes whole words without merging (ignore_merges) or merges its "
            "byte tokens: merges cannot be added exactly",
            hint=hint,
        )


def check_prunable(vocabulary: Vocabulary) -> None:
    """Refuse a base that tokens cannot be taken from.

    Raises:
        UnsupportedModelError: text of other characters would have no encoding any more.
    """
    if not is_byte_level(vocabulary) and not has_byte_fallback(
        vocabulary, *_KINDS, ModelKind.UNIGRAM
    ):
        raise UnsupportedModelError(
            "pruning needs the tokenizer.json of a byte-level BPE, or of a BPE or Unigram model "
            f"with byte fallback and all 256 byte tokens; {vocabulary.name} is "
            f"{vocabulary.model_kind.value}",
            hint="learn a vocabulary afresh with the method bpe",
        )


def start_from_contents(vocabulary: Vocabulary) -> Start:
    """Return the contents of the tokens in UTF-8, and the merges, for BPE or Unigram.

    The tokens that must not arise are the special, the added and the unknown ones.
    """
    document = json.loads(vocabulary.tokenizer_json or "{}")
    tokens = [b""] * vocabulary.vocab_size
    vocab = document["model"]["vocab"]
    rows = vocab.items() if isinstance(vocab, dict) else ((p, i) for i, (p, _) in enumerate(vocab))
    named = {**vocabulary.special_tokens, **vocabulary.added_tokens}
    for content, token_id in (*rows, *named.items()):
        tokens[token_id] = content.encode()
    banned = set(named.values())
    # Of a pair that is listed twice, the later rank counts, as in the tokenizers library.
    hidden = set(vocabulary.special_tokens.values())  # text never becomes one of them
    rules = [rule for rule in vocabulary.merges.tolist() if not hidden & set(rule)]
    last = {(a, b): (a, b, c) for a, b, c in reversed(rules)}
    byte_ids = np.array(vocabulary.byte_ids, dtype=np.int32)
    return Start(tokens, sorted(banned), list(last.values())[::-1], byte_ids)


def engine_of(
    vocabulary: Vocabulary, counts: PretokenCounts, min_count: int = 1, max_token_bytes: int = 0
) -> MergeEngine:
    """Return an engine that applied the base's merges to counted pretokens.

    Args:
        vocabulary: BPE with byte fallback.
        counts: Of pretokens, as the base cuts them.
        min_count: Pairs that occur less often are not learned.
        max_token_bytes: Longest product in bytes; 0 for that of the base.
    """
    start = start_from_contents(vocabulary)
    lengths = vocabulary.lengths
    engine = MergeEngine(
        _words(start, counts),
        start.tokens,
        banned=[*start.banned, *start.byte_ids.tolist()],
        rules=start.rules,
        min_count=min_count,
        max_token_size=max(max_token_bytes, int(lengths.max())),
        sizes=lengths.tolist(),
        spans=[len(token.decode()) for token in start.tokens],
    )
    engine.replay()
    return engine


def _words(start: Start, counts: PretokenCounts) -> Words:
    """Return the words of pretokens, a symbol per character, -1 per byte it falls to."""
    joined = {
        start.tokens[left].decode()[-1] + start.tokens[right].decode()[0]
        for left, right, _ in start.rules
    }
    words: Counter[str] = Counter()
    for piece, count in counts.counts.items():
        for word in cut_words(piece.decode("utf-8", "surrogatepass"), joined):
            words[word] += count
    reserved = {*start.banned, *start.byte_ids.tolist()}
    characters = {
        token.decode(): token_id
        for token_id, token in enumerate(start.tokens)
        if token and token_id not in reserved and len(token.decode()) == 1
    }
    symbols: list[int] = []
    ends, num_tokens = [], 0
    for word, count in words.items():
        before = len(symbols)
        for character in word:
            known = characters.get(character)
            fallen = len(character.encode("utf-8", "surrogatepass"))
            symbols += [-1] * fallen if known is None else [known]
        ends.append(len(symbols))
        num_tokens += (len(symbols) - before) * count
    return Words(
        np.array(symbols, dtype=np.int32),
        np.array(ends, dtype=np.int64),
        np.fromiter(words.values(), dtype=np.int64, count=len(words)),
        num_tokens,
    )


def cut_words(text: str, joined: Iterable[str] = ()) -> list[str]:
    """Return the words of a normalized text.

    Args:
        text: With "▁" for spaces.
        joined: Pairs of characters between which there is no cut.
    Example:
        >>> cut_words("▁a▁▁(12)")
        ['▁a', '▁▁(1', '2)']
    """
    ends = [
        place
        for match in _CUTS.finditer(text)
        if text[(place := match.start()) - 1 : place + 1] not in joined
    ]
    return [text[a:b] for a, b in zip([0, *ends], [*ends, len(text)], strict=True)]


def extended_contents(
    base: Vocabulary, tokens: Sequence[bytes], merges: Iterable[tuple[int, int]]
) -> dict[str, Any]:
    """Return the base's tokenizer.json with more tokens and merges.

    Args:
        base: BPE with byte fallback.
        tokens: Contents by id; those from `base.vocab_size` on are new.
        merges: Pairs of ids to put after the base's merges.
    """
    document: dict[str, Any] = json.loads(base.tokenizer_json or "{}")
    model = document["model"]
    for token_id in range(base.vocab_size, len(tokens)):
        model["vocab"][tokens[token_id].decode()] = token_id
    has_lists = not model["merges"] or isinstance(model["merges"][0], list)
    for left, right in merges:
        pair = [tokens[left].decode(), tokens[right].decode()]
        model["merges"].append(pair if has_lists else " ".join(pair))
    return neutral(with_added_tokens(document))


def pruned_contents(base: Vocabulary, kept: Sequence[int]) -> dict[str, Any]:
    """Return the base's tokenizer.json with some of its tokens, numbered anew in their order.

    Args:
        base: BPE or Unigram with byte fallback.
        kept: Ids that stay, ascending.
    """
    document: dict[str, Any] = json.loads(base.tokenizer_json or "{}")
    model = document["model"]
    new_id = {old: new for new, old in enumerate(kept)}
    if isinstance(model["vocab"], list):
        model["vocab"] = [row for i, row in enumerate(model["vocab"]) if i in new_id]
        if model.get("unk_id") is not None:
            model["unk_id"] = new_id[model["unk_id"]]
    else:
        vocab = {c: new_id[i] for c, i in model["vocab"].items() if i in new_id}
        rows = ((m, m.split(" ") if isinstance(m, str) else m) for m in model["merges"])
        model["merges"] = [
            given for given, (a, b) in rows if a in vocab and b in vocab and a + b in vocab
        ]
        model["vocab"] = vocab
    for entry in document.get("added_tokens") or []:
        entry["id"] = new_id[entry["id"]]
    if not isinstance(model["vocab"], list):
        with_added_tokens(document)
    ids = {**base.special_tokens, **base.added_tokens}
    ids = {content: new_id[old] for content, old in ids.items()}
    document["post_processor"] = with_new_ids(document.get("post_processor"), ids)
    return neutral(document)
