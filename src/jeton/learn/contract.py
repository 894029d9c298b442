"""What learns a vocabulary from text.

Laws (tested over every registered method, see `tests/contract/test_learners.py`):
1. The same texts give the same file, byte for byte, whatever the number of shards or processes and
   whatever the order of the documents.
2. Every text, valid or not as prose, encodes and decodes to the same bytes (byte-level methods).
3. The parts of each merge are in the vocabulary before the merge is needed.
4. `transformers.AutoTokenizer` loads the exported folder unmodified and gives the same ids.
5. `vocab_size` is exactly what was asked for; a text too small for it is an error, not less.
6. Special and added tokens of the base keep their content, and a method with `keeps_base_ids`
   keeps every id of the base with its bytes.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

from jeton.core.progress import NO_PROGRESS, Progress
from jeton.core.vocabulary import Vocabulary


@dataclass(frozen=True, slots=True)
class SizePoint:
    """One point of the curve of size against length.

    Attributes:
        vocab_size: Ids of the vocabulary.
        bytes_per_token: On the text that was learned from.
    """

    vocab_size: int
    bytes_per_token: float


@dataclass(frozen=True, slots=True)
class LearnedVocabulary:
    """A vocabulary and how it came about.

    Attributes:
        method: Name of the method.
        tokenizer_json: Content of the tokenizer.json.
        vocab_size: Ids that the tokenizer knows, added tokens included.
        num_kept: Tokens of the base that it still has.
        num_new: Tokens that the base did not have.
        num_bytes: Size of the text that was learned from, in UTF-8.
        bytes_per_token: On that text.
        source_bytes_per_token: Of the base on that text; None without a base.
        seconds: Wall time of learning.
        curve: Bytes per token against size, on the text that was learned from.
        notes: What a reader should know, in sentences.
    """

    method: str
    tokenizer_json: str
    vocab_size: int
    num_kept: int
    num_new: int
    num_bytes: int
    bytes_per_token: float
    source_bytes_per_token: float | None
    seconds: float
    curve: tuple[SizePoint, ...] = ()
    notes: tuple[str, ...] = ()

    def vocabulary(self) -> Vocabulary:
        """Return the vocabulary itself."""
        return Vocabulary.from_tokenizer_json(self.tokenizer_json, name=self.method)


class Learner(Protocol):
    """Learns a vocabulary; its options are its fields."""

    keeps_base_ids: ClassVar[bool]

    def learn(
        self,
        texts: Iterable[str],
        base: Vocabulary | Mapping[str, Any] | str | None = None,
        vocab_size: int | None = None,
        *,
        progress: Progress = NO_PROGRESS,
    ) -> LearnedVocabulary:
        """Learn from texts.

        Args:
            texts: Documents that can be iterated more than once.
            base: Vocabulary, or content of a tokenizer.json, to start from or to take the special
                tokens and pre-tokenizer of.
            vocab_size: Ids of the result; None for the method's own rule.
            progress: Where to report.
        Returns:
            The vocabulary and its figures.
        Raises:
            InputError: the texts are empty, or too small for the size.
            ConfigError: the size is not possible.
            UnsupportedModelError: the base is of a kind that the method cannot start from.
        """
        ...
