"""What every method that learns byte-level tokens afresh does before and after its own part."""

import json
import time
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from jeton.core.progress import NO_PROGRESS, Progress
from jeton.core.vocabulary import Vocabulary
from jeton.errors import ConfigError
from jeton.learn.byte_level import (
    added_entries,
    digit_pattern,
    fresh_document,
    is_byte_level,
    pre_tokenizer_for,
    read_base,
)
from jeton.learn.contract import LearnedVocabulary
from jeton.learn.counts import PretokenCounts, check_rereadable
from jeton.learn.engine import MergeEngine, Words
from jeton.learn.pretokenize import Pretokenizer
from jeton.learn.results import byte_order, check_reached, finish, replayed, unique_rules

DEFAULT_VOCAB_SIZE = 8192


@dataclass(frozen=True)
class Fresh:
    """The start of a vocabulary learned afresh.

    Attributes:
        source: The base, which gives special tokens, normalizer and pre-tokenizer.
        vocab_size: Ids to reach.
        added: Entries of the added tokens, whose ids are the first ones.
        byte_ids: Id of each byte, shape (256,), int32.
        tokens: Bytes of the added tokens and of the 256 bytes, by id.
        digits: How numbers are cut; empty for as the spans do it.
        began: Start by `time.perf_counter`.
    """

    source: Vocabulary | None
    vocab_size: int
    added: list[dict[str, Any]]
    byte_ids: NDArray[np.int32]
    tokens: list[bytes]
    began: float
    digits: str = ""

    @classmethod
    def begin(
        cls,
        texts: Iterable[str],
        base: Vocabulary | Mapping[str, Any] | str | None,
        vocab_size: int | None,
        *,
        special_tokens: str = "",
        default_size: int | None = None,
        digits: str = "",
    ) -> "Fresh":
        """Check the arguments of `Learner.learn`; `special_tokens` are separated by commas.

        Raises:
            InputError: the texts can be read only once.
            ConfigError: the size is below the added tokens and the bytes.
        """
        began = time.perf_counter()
        check_rereadable(texts)
        if digits:
            digit_pattern(digits)
        source = read_base(base)
        if vocab_size is None:
            vocab_size = default_size or (source.vocab_size if source else DEFAULT_VOCAB_SIZE)
        added = added_entries(source, [token for token in special_tokens.split(",") if token])
        byte_ids, tokens = byte_order([entry["content"] for entry in added])
        if vocab_size < len(tokens):
            raise ConfigError(
                f"vocab_size {vocab_size} is below the 256 bytes and {len(added)} added tokens, "
                "which must be there",
                hint=f"give at least {len(tokens)}",
            )
        return cls(source, vocab_size, added, byte_ids, tokens, began, digits)

    @property
    def banned(self) -> list[int]:
        """Ids whose bytes must not arise as a product."""
        return list(range(len(self.added)))

    def spans(self, asked: str) -> str:
        """Return the spans asked for; empty stands for the base's, or for words without one."""
        has_own = self.source is not None and is_byte_level(self.source)
        return asked or ("source" if has_own else "word")

    def pre_tokenizer(self, spans: str) -> dict[str, Any] | None:
        """Return the pre-tokenizer of some spans in the words of tokenizer.json."""
        return pre_tokenizer_for(self.spans(spans), self.source, self.digits)

    def pretokenizer(self, pre_tokenizer: dict[str, Any] | None) -> Pretokenizer:
        """Return the counting form of a pre-tokenizer, after the base's normalizer."""
        normalizer = None
        if self.source is not None and is_byte_level(self.source):
            normalizer = json.loads(self.source.tokenizer_json or "{}").get("normalizer")
        return Pretokenizer.from_tokenizer_json(
            {"pre_tokenizer": pre_tokenizer, "normalizer": normalizer}
        )

    def words(self, counts: PretokenCounts) -> Words:
        """Return counted pretokens as words of bytes."""
        return Words.from_packed(counts.packed(), self.byte_ids)

    def learn_to_size(self, engine: MergeEngine, num_bytes: int, **options: Any) -> None:
        """Learn until the size is reached.

        Raises:
            InputError: the text is too small for it.
        """
        is_reached = engine.learn(self.vocab_size, **options)
        check_reached(is_reached, engine.vocab_size, self.vocab_size, num_bytes)

    def finish(
        self,
        method: str,
        engine: MergeEngine,
        words: Words,
        counts: PretokenCounts,
        pre_tokenizer: dict[str, Any] | None,
        notes: Sequence[str] = (),
    ) -> LearnedVocabulary:
        """Write the tokenizer.json and the figures; `words` and `counts` are what to measure on."""
        rules = unique_rules(engine.merges())
        pairs = [(left, right) for left, right, _ in rules]
        document = fresh_document(engine.tokens(), pairs, pre_tokenizer, self.source, self.added)
        final = replayed(engine, words, rules)
        return finish(method, document, final, counts, self.source, self.began, notes=tuple(notes))


@dataclass(frozen=True, slots=True)
class FreshLearner(ABC):
    """Options of every method that learns afresh, and what it does before its own part.

    Attributes:
        special_tokens: Special tokens beside those of the base, separated by commas.
        digits: How numbers are cut: "single" digits, by three from the "left" or from the "right";
            empty for as the spans do it.
    """

    special_tokens: str = ""
    digits: str = ""

    keeps_base_ids: ClassVar[bool] = False
    default_size: ClassVar[int | None] = None  # None: the base's, without a base 8192

    def learn(
        self,
        texts: Iterable[str],
        base: Vocabulary | Mapping[str, Any] | str | None = None,
        vocab_size: int | None = None,
        *,
        progress: Progress = NO_PROGRESS,
    ) -> LearnedVocabulary:
        """Learn from texts; `vocab_size` defaults to the base's, without a base to 8192."""
        fresh = Fresh.begin(
            texts,
            base,
            vocab_size,
            special_tokens=self.special_tokens,
            default_size=self.default_size,
            digits=self.digits,
        )
        return self.learn_fresh(texts, fresh, progress)

    @abstractmethod
    def learn_fresh(
        self, texts: Iterable[str], fresh: Fresh, progress: Progress
    ) -> LearnedVocabulary:
        """Learn from texts that can be read again, from this start."""
