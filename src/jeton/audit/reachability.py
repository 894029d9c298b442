"""Which tokens any text can produce: reached (with a text that shows it), dead (with a proof),
shadowed by an added token, or unknown.

A claim of death is a proof for the tokenizer as it stands, never the failure of a search:

- BPE makes a token of its own symbols or nowhere (`jeton.audit.merges`); a tokenizer that takes
  whole pretokens from the vocabulary without merging is exempt.
- Unigram: a token whose own piece has a better segmentation is worse in every text.
- SentencePiece byte fallback: an ASCII byte whose character is a token is never fallen back to.
- A token that contains an added token is cut there in every text.
- What a search has not brought out is tried with the slower proofs of `jeton.audit.proofs`.

Everything else is searched for: the text at hand, the tokens themselves, then the tokens between
all sorts of neighbours.
"""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import IntEnum

import numpy as np
import numpy.typing as npt
from tokenizers import Tokenizer, models

from jeton.audit.contexts import (
    ROUNDS,
    all_characters,
    completions,
    contexts,
    is_utf8,
)
from jeton.audit.encoding import encode_all
from jeton.audit.merges import UNBUILT, find_rules, symbols_of, text_merges
from jeton.audit.proofs import (
    find_neighbours,
    find_pretokens,
    only_in_broken_bytes,
    prove_dead,
)
from jeton.core.vocabulary import ModelKind, TokenKind, Vocabulary

IntArray = npt.NDArray[np.int64]

_BPE = (ModelKind.BYTE_LEVEL_BPE, ModelKind.SENTENCEPIECE_BPE)
_CHUNK = 64  # tokens in one text of the first search; a witness text is cut out of it later
_ROUNDS_BEFORE_PROOFS = 8
_MARGIN = 1e-6  # nats; Unigram scores are float32 in many files


class Reach(IntEnum):
    """What is known about an id."""

    REACHABLE = 0
    DEAD = 1
    SHADOWED = 2
    BYTES_ONLY = 3
    """Occurs only in bytes that are not UTF-8."""
    UNKNOWN = 4
    NOT_TEXT = 5
    """Special or unused: not meant to come out of text."""


@dataclass(frozen=True)
class Reachability:
    """The state of every id.

    Attributes:
        states: `Reach` by id, shape (vocab_size,), uint8.
        reasons: Why, for every id that is dead or shadowed.
        witness_of: Returns a text whose encoding contains a reachable id.
        origins: The text in which each id was found, as a separator and the parts that it joins;
            ids known to occur in the texts given are not in it.
    """

    states: npt.NDArray[np.uint8]
    reasons: dict[int, str]
    witness_of: Callable[[int], str | None]
    origins: Mapping[int, tuple[str, ...]] = field(default_factory=dict)

    def count(self, state: Reach) -> int:
        """Return how many ids are in a state."""
        return int((self.states == state).sum())

    def ids(self, state: Reach) -> list[int]:
        """Return the ids in a state, ascending."""
        found: list[int] = np.flatnonzero(self.states == state).tolist()
        return found


def find_reachability(
    vocabulary: Vocabulary, seen: Iterable[int] = (), texts: Sequence[str] = ()
) -> Reachability:
    """Return the state of every id.

    Args:
        vocabulary: Any.
        seen: Ids that are known to occur in `texts`.
        texts: Where they occur, for witnesses.
    """
    kinds = np.asarray(vocabulary.kinds)
    states = np.full(vocabulary.vocab_size, Reach.UNKNOWN, dtype=np.uint8)
    states[(kinds == TokenKind.SPECIAL) | (kinds == TokenKind.UNUSED)] = Reach.NOT_TEXT
    reasons = {}
    for find, state in ((_shadowed, Reach.SHADOWED), (_dead, Reach.DEAD)):
        for token_id, reason in find(vocabulary).items():
            if states[token_id] == Reach.UNKNOWN:
                states[token_id] = state
                reasons[token_id] = reason
    search = _Search(vocabulary, states, texts)
    search.mark(seen)
    search.run()
    reasons.update(search.reasons)
    return Reachability(states, reasons, search.witness_of, search.origins)


class _Search:
    """Looks for texts that produce the tokens that are still unknown."""

    def __init__(
        self, vocabulary: Vocabulary, states: npt.NDArray[np.uint8], texts: Sequence[str]
    ) -> None:
        self._vocabulary = vocabulary
        self._states = states
        self._texts = texts
        self._contents = {i: c.encode() for c, i in vocabulary.added_tokens.items()}
        self.origins: dict[int, tuple[str, ...]] = {}
        self.reasons: dict[int, str] = {}

    def mark(self, seen: Iterable[int]) -> None:
        ids = np.fromiter(seen, dtype=np.int64)
        self._states[ids[self._states[ids] == Reach.UNKNOWN]] = Reach.REACHABLE

    def run(self) -> None:
        pieces: dict[int, str] = {}
        has_fragments = False
        for token_id, token in self._unknown():
            try:
                pieces[token_id] = token.decode()
            except UnicodeDecodeError:
                text = next(completions(token, 0, 1), None)
                if text is not None:
                    pieces[token_id] = text
                    has_fragments = True
                elif token_id not in self._contents:
                    self._states[token_id] = Reach.BYTES_ONLY
        for separator in ("\n", " ", ""):
            unknown = np.flatnonzero(self._states == Reach.UNKNOWN).tolist()
            self._try_joined([pieces[i] for i in unknown if pieces.get(i)], separator)
        if has_fragments and any(not is_utf8(token) for _, token in self._unknown()):
            self._try_joined(all_characters(), "\n")
        for index in range(ROUNDS):
            left = self._unknown()
            if not left:
                return
            if index == _ROUNDS_BEFORE_PROOFS:
                self._prove([token_id for token_id, _ in left])
                left = self._unknown()
            self._try([(text,) for _, token in left for text in contexts(token, index)], "")

    def _prove(self, ids: list[int]) -> None:
        """Settle what a few rounds of searching have not brought out."""
        self.reasons = prove_dead(self._vocabulary, ids)
        texts: list[tuple[int, str]] = []
        for find in (find_pretokens, find_neighbours):
            reasons, more = find(self._vocabulary, [i for i in ids if i not in self.reasons])
            self.reasons.update(reasons)
            texts += more
        self._states[list(self.reasons)] = Reach.DEAD
        self._states[only_in_broken_bytes(self._vocabulary, ids)] = Reach.BYTES_ONLY
        self._try([(text,) for _, text in texts], "")

    def _unknown(self) -> list[tuple[int, bytes]]:
        """Return ids and bytes; an added token is matched by its content, not its bytes."""
        tokens, contents = self._vocabulary.tokens, self._contents
        ids = np.flatnonzero(self._states == Reach.UNKNOWN).tolist()
        return [(i, contents.get(i, tokens[i])) for i in ids]

    def _try_joined(self, parts: Sequence[str], separator: str) -> None:
        chunks = [tuple(parts[s : s + _CHUNK]) for s in range(0, len(parts), _CHUNK)]
        self._try(chunks, separator)

    def _try(self, chunks: Sequence[tuple[str, ...]], separator: str) -> None:
        """Encode texts, given in parts, and mark the tokens that come out."""
        if not chunks:
            return
        encodings = encode_all(self._vocabulary, [separator.join(chunk) for chunk in chunks])
        ids = np.concatenate(encodings)
        places = np.flatnonzero(self._states[ids] == Reach.UNKNOWN)
        new, first = np.unique(ids[places], return_index=True)
        self._states[new] = Reach.REACHABLE
        ends = np.cumsum([len(encoding) for encoding in encodings])
        owners = np.searchsorted(ends, places[first], side="right")
        origins = [(separator, *chunk) for chunk in chunks]
        for token_id, owner in zip(new.tolist(), owners.tolist(), strict=True):
            self.origins[token_id] = origins[owner]

    def witness_of(self, token_id: int) -> str | None:
        """Return a text whose encoding contains the id, as short as halving makes it."""
        if token_id not in self.origins:
            return next((t for t in self._texts if self._has(t, token_id)), None)
        separator, *parts = self.origins[token_id]
        while len(parts) > 1:
            middle = len(parts) // 2
            halves = [
                h
                for h in (parts[:middle], parts[middle:])
                if self._has(separator.join(h), token_id)
            ]
            if not halves:
                break
            parts = halves[0]
        return separator.join(parts)

    def _has(self, text: str, token_id: int) -> bool:
        return token_id in self._vocabulary.encode_lossy(text)


def _shadowed(vocabulary: Vocabulary) -> dict[int, str]:
    """Return text tokens that contain an added token, which matches wherever it stands."""
    if not vocabulary.added_tokens or vocabulary.tokenizer_json is None:
        return {}
    rows = json.loads(vocabulary.tokenizer_json).get("added_tokens") or []
    contents = {
        row["content"].encode(): row["content"]
        for row in rows
        if row["content"] in vocabulary.added_tokens
        and not row.get("single_word")
        and (row.get("normalized") or vocabulary.normalizer is None)
    }
    contents.pop(b"", None)
    lengths = sorted({len(content) for content in contents})
    heads = {content[0] for content in contents}
    found = {}
    for token_id in np.flatnonzero(np.asarray(vocabulary.kinds) <= TokenKind.BYTE).tolist():
        token = vocabulary.tokens[token_id]
        starts = [i for i, byte in enumerate(token) if byte in heads]
        inside = (token[i : i + n] for i in starts for n in lengths if i + n <= len(token))
        content = next((part for part in inside if part in contents), None)
        if content is not None:
            found[token_id] = f"the added token {contents[content]!r} matches first"
    return found


def _dead(vocabulary: Vocabulary) -> dict[int, str]:
    if vocabulary.model_kind in _BPE:
        return {**_dead_in_bpe(vocabulary), **_dead_bytes(vocabulary)}
    if vocabulary.model_kind is ModelKind.UNIGRAM:
        return {**_dead_in_unigram(vocabulary), **_dead_bytes(vocabulary)}
    return {}


def _dead_in_bpe(vocabulary: Vocabulary) -> dict[int, str]:
    kinds = np.asarray(vocabulary.kinds)
    if vocabulary.ignore_merges or not len(vocabulary.merges):
        return {}
    merges = text_merges(vocabulary)
    rules = find_rules(merges, symbols_of(vocabulary), vocabulary.lengths)
    has_merge = np.zeros(vocabulary.vocab_size, dtype=bool)
    has_merge[merges[:, 2]] = True
    unbuilt = np.flatnonzero((rules.rule == UNBUILT) & (kinds == TokenKind.TEXT))
    return {
        i: "its own text merges in other ways first" if has_merge[i] else "no merge builds it"
        for i in unbuilt.tolist()
    }


def _dead_bytes(vocabulary: Vocabulary) -> dict[int, str]:
    """Return fallback tokens of ASCII bytes whose character is a token."""
    if vocabulary.model_kind is ModelKind.BYTE_LEVEL_BPE:
        return {}
    kinds = np.asarray(vocabulary.kinds)
    characters = {vocabulary.tokens[i] for i in np.flatnonzero(kinds == TokenKind.TEXT).tolist()}
    return {
        i: f"the character {vocabulary.tokens[i].decode()!r} is a token, so no byte stands for it"
        for i in np.flatnonzero(kinds == TokenKind.BYTE).tolist()
        if vocabulary.tokens[i].isascii() and vocabulary.tokens[i] in characters
    }


def _dead_in_unigram(vocabulary: Vocabulary) -> dict[int, str]:
    """Return pieces that a better segmentation of their own text always beats."""
    if vocabulary.tokenizer_json is None:
        return {}
    model = json.loads(vocabulary.tokenizer_json)["model"]
    unk_id = model.get("unk_id")
    rows = [(piece, float(score)) for piece, score in model["vocab"]]
    engine = Tokenizer(models.Unigram(rows, unk_id=unk_id, byte_fallback=False))
    ids = [
        i
        for i, kind in enumerate(vocabulary.kinds[: len(rows)])
        if kind == TokenKind.TEXT and rows[i][0]
    ]
    found = {}
    encodings = engine.encode_batch([rows[i][0] for i in ids], add_special_tokens=False)
    for token_id, encoding in zip(ids, encodings, strict=True):
        better = encoding.ids
        if unk_id in better or token_id in better:
            continue
        if sum(rows[i][1] for i in better) > rows[token_id][1] + _MARGIN:
            shown = " ".join(rows[i][0] for i in better)
            found[token_id] = f"its own text is always cut as {shown}"
    return found
