"""What an audit measures on: a vocabulary, texts by group, and further evidence.

Every distinct document is encoded once, and all metrics share the counts.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from jeton.audit.encoding import encode_all
from jeton.core.vocabulary import TokenKind, Vocabulary
from jeton.errors import ConfigError, InputError

if TYPE_CHECKING:
    from jeton.audit.asking import Asked
    from jeton.audit.reachability import Reachability

IntArray = npt.NDArray[np.int64]
FloatArray = npt.NDArray[np.floating]

REFERENCE_NAMES = ("eng", "en", "English", "english")


@dataclass(frozen=True, slots=True)
class Embeddings:
    """Embedding matrices of a model that uses the vocabulary.

    Attributes:
        input: Rows of the input embedding, shape (num_embeddings, hidden).
        output: Rows of the output layer, same shape; None when the two are tied.
    """

    input: FloatArray
    output: FloatArray | None = None


@dataclass(frozen=True, slots=True)
class Lexicon:
    """Words and meaningful parts of a language.

    Attributes:
        words: Valid words.
        morphemes: Roots and affixes; roots alone do.
    """

    words: frozenset[str]
    morphemes: frozenset[str] = frozenset()


@dataclass(frozen=True)
class GroupCounts:
    """Encoded texts of one group.

    Attributes:
        num_documents: Documents, repeated ones counted each time.
        num_bytes: UTF-8 bytes.
        num_chars: Code points.
        num_words: Runs of anything but white space.
        tokens_per_document: Shape (documents,), int64.
        token_counts: How often each id occurs, shape (vocab_size,), int64.
    """

    num_documents: int
    num_bytes: int
    num_chars: int
    num_words: int
    tokens_per_document: IntArray
    token_counts: IntArray

    @property
    def num_tokens(self) -> int:
        """Tokens of the group."""
        return int(self.tokens_per_document.sum())


@dataclass(frozen=True)
class AuditInput:
    """Everything that metrics may look at.

    Attributes:
        vocabulary: What is audited.
        texts: Group (language, domain) -> documents.
        is_parallel: Whether document i says the same in every group.
        reference: Group that premiums are relative to; English, else the first, when empty.
        embeddings: Of a model that uses the vocabulary.
        lexicon: Of the language of the texts.
        segmentation: Word -> its morphemes, which concatenate to it.
        model: A causal LM of the vocabulary, to ask.
        seed: For sampling.
    """

    vocabulary: Vocabulary
    texts: Mapping[str, Sequence[str]] = field(default_factory=dict)
    is_parallel: bool = False
    reference: str = ""
    embeddings: Embeddings | None = None
    lexicon: Lexicon | None = None
    segmentation: Mapping[str, Sequence[str]] | None = None
    model: "Asked | None" = None
    seed: int = 0

    def __post_init__(self) -> None:
        lengths = {name: len(documents) for name, documents in self.texts.items()}
        if self.is_parallel and len(set(lengths.values())) > 1:
            raise InputError(
                f"parallel text needs as many documents in every group; found {lengths}",
                hint="give files whose line i is the same passage in every language",
            )
        if self.reference and self.reference not in self.texts:
            raise ConfigError(
                f"the reference group {self.reference!r} has no text; "
                f"groups are: {', '.join(sorted(self.texts)) or 'none'}"
            )
        if self.embeddings is not None and len(self.embeddings.input) < self.vocabulary.vocab_size:
            raise ConfigError(
                f"the embedding has {len(self.embeddings.input)} rows; "
                f"the vocabulary has {self.vocabulary.vocab_size} ids"
            )

    def has(self, need: str) -> bool:
        """Return whether a metric's need is met."""
        return {
            "texts": any(document for docs in self.texts.values() for document in docs),
            "parallel": self.is_parallel and len(self.texts) > 1,
            "embeddings": self.embeddings is not None,
            "lexicon": self.lexicon is not None,
            "segmentation": bool(self.segmentation),
        }[need]

    @cached_property
    def reference_group(self) -> str:
        """The group that the others are compared with."""
        return self.reference or reference_of(self.texts)

    @cached_property
    def unreadable_groups(self) -> list[str]:
        """Groups of which more than 1% becomes unknown tokens: few tokens mean nothing there."""
        unknown = self.vocabulary.unk_token_id
        if unknown is None:
            return []
        groups = self.groups.items()
        return [n for n, group in groups if group.token_counts[unknown] > 0.01 * group.num_tokens]

    @cached_property
    def encodings(self) -> dict[str, npt.NDArray[np.int32]]:
        """Ids of every distinct document, shape (tokens,), int32 each."""
        unique = list(dict.fromkeys(d for name in sorted(self.texts) for d in self.texts[name]))
        return dict(zip(unique, encode_all(self.vocabulary, unique), strict=True))

    @cached_property
    def groups(self) -> dict[str, GroupCounts]:
        """Counts of every group, by name in sorted order."""
        weights = {name: Counter(documents) for name, documents in self.texts.items()}
        size = self.vocabulary.vocab_size
        return {
            name: _count(self.texts[name], weights[name], self.encodings, size)
            for name in sorted(weights)
        }

    @cached_property
    def token_counts(self) -> IntArray:
        """How often each id occurs in all texts, shape (vocab_size,), int64."""
        total = np.zeros(self.vocabulary.vocab_size, dtype=np.int64)
        for group in self.groups.values():
            total += group.token_counts
        return total

    @property
    def num_tokens(self) -> int:
        """Tokens of all texts."""
        return int(self.token_counts.sum())

    @property
    def num_bytes(self) -> int:
        """UTF-8 bytes of all texts."""
        return sum(group.num_bytes for group in self.groups.values())

    @cached_property
    def text_ids(self) -> IntArray:
        """Ids of tokens that stand for text or bytes: not special, added or unused."""
        kinds = np.asarray(self.vocabulary.kinds)
        return np.flatnonzero((kinds == TokenKind.TEXT) | (kinds == TokenKind.BYTE))

    @cached_property
    def token_lengths(self) -> IntArray:
        """Bytes of each token, shape (vocab_size,), int64."""
        return np.array([len(token) for token in self.vocabulary.tokens], dtype=np.int64)

    @cached_property
    def reachability(self) -> "Reachability":
        """Which tokens any text can produce; see `jeton.audit.reachability`."""
        from jeton.audit.reachability import find_reachability

        return find_reachability(
            self.vocabulary,
            np.flatnonzero(self.token_counts),
            [document for name in sorted(self.texts) for document in self.texts[name]],
        )


def reference_of(names: Iterable[str]) -> str:
    """Return English among the groups, else the first in sorted order."""
    known = sorted(names)
    return next((name for name in REFERENCE_NAMES if name in known), known[0])


def _count(
    documents: Sequence[str],
    weights: Counter[str],
    encodings: Mapping[str, npt.NDArray[np.int32]],
    vocab_size: int,
) -> GroupCounts:
    ids = np.concatenate([encodings[text] for text in weights] or [np.zeros(0, np.int32)])
    repeats = np.repeat(
        np.array(list(weights.values()), dtype=np.int64),
        np.array([len(encodings[text]) for text in weights], dtype=np.int64),
    )
    counts = np.zeros(vocab_size, dtype=np.int64)
    np.add.at(counts, ids, repeats)
    return GroupCounts(
        num_documents=len(documents),
        num_bytes=sum(w * len(text.encode()) for text, w in weights.items()),
        num_chars=sum(w * len(text) for text, w in weights.items()),
        num_words=sum(w * len(text.split()) for text, w in weights.items()),
        tokens_per_document=np.array([len(encodings[d]) for d in documents], dtype=np.int64),
        token_counts=counts,
    )
