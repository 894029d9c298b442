"""Which source rows a destination token corresponds to: shared by every initializer."""

import functools
from dataclasses import dataclass

from jeton.core.vocabulary import TokenKind, Vocabulary
from jeton.errors import EncodingError


@dataclass(frozen=True, slots=True)
class Match:
    """How one destination id relates to the source.

    `source_ids` holds one id for a shared token, the ids of its source encoding for a new one, and
    is empty where the source has no way to write it.
    """

    is_shared: bool
    source_ids: tuple[int, ...]


@functools.lru_cache(maxsize=1)  # methods that are made of others ask for the same pair again
def match_tokens(source: Vocabulary, destination: Vocabulary) -> tuple[Match, ...]:
    """Return one Match per destination id.

    Special tokens match by their content, then by their role as the end or the beginning of a text
    ("</s>" and "<|endoftext|>"); others match by bytes. Where several source tokens spell the
    same bytes, the one with the same id wins, then one of the same kind, then the lowest id.
    """
    by_bytes: dict[bytes, list[int]] = {}
    for token_id, data in enumerate(source.tokens):
        if data and source.kinds[token_id] not in (TokenKind.SPECIAL, TokenKind.UNUSED):
            by_bytes.setdefault(data, []).append(token_id)
    special_names = {token_id: name for name, token_id in destination.special_tokens.items()}
    matches: list[Match] = []
    for token_id, data in enumerate(destination.tokens):
        kind = destination.kinds[token_id]
        if kind == TokenKind.SPECIAL:
            found = source.special_tokens.get(special_names.get(token_id, ""))
            if found is None:
                found = _same_role(source, destination, token_id)
            matches.append(Match(found is not None, () if found is None else (found,)))
        elif not data:
            # An id that no text reaches keeps its row when the source has the same hole.
            same_hole = token_id < source.vocab_size and not source.tokens[token_id]
            same_hole = same_hole and source.kinds[token_id] == kind
            matches.append(Match(same_hole, (token_id,) if same_hole else ()))
        elif candidates := by_bytes.get(data):
            best = min(candidates, key=lambda i: (i != token_id, source.kinds[i] != kind, i))
            matches.append(Match(True, (best,)))
        else:
            matches.append(Match(False, _decompose(source, data)))
    return tuple(matches)


def _same_role(source: Vocabulary, destination: Vocabulary, token_id: int) -> int | None:
    """Return the source's token that ends or begins a text, when this one does."""
    if token_id == destination.eos_token_id:
        return source.eos_token_id
    return source.bos_token_id if token_id == destination.bos_token_id else None


def _decompose(source: Vocabulary, data: bytes) -> tuple[int, ...]:
    """Return the source ids that spell `data`, without a dummy space that is not part of it."""
    try:
        ids = source.encode(data)
    except EncodingError:
        return ()
    spelled = source.bytes_of(ids)
    if spelled == b" " + data and source.tokens[ids[0]] == b" ":
        ids = ids[1:]
    return tuple(ids)
