"""Extend: keep every token of a vocabulary and go on merging on the user's text.

Source: Purason et al. 2025, https://arxiv.org/abs/2512.03989 (continued BPE training).
Differs from the source: the text is segmented by the base's merges exactly as its encoder does it,
a pair whose bytes are a token already costs no new id, and tokens may cover words within a line
(those of a base with byte fallback, as Llama 2 and Gemma have, one word and the spaces before it).
Cost: one pass over the text to count, then time that grows with the number of distinct pieces;
lines repeat less than words, so they are learned from a sample.
"""

import json
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar

from jeton.core.progress import NO_PROGRESS, Progress
from jeton.core.vocabulary import Vocabulary
from jeton.errors import ConfigError
from jeton.learn.byte_fallback import check_extendable, engine_of, extended_contents
from jeton.learn.byte_level import (
    extended_document,
    is_byte_level,
    pre_tokenizer_for,
    read_base,
    start_from,
)
from jeton.learn.contract import LearnedVocabulary
from jeton.learn.counts import check_rereadable, count_pretokens, sample
from jeton.learn.engine import MergeEngine, Words
from jeton.learn.pretokenize import Pretokenizer
from jeton.learn.prune import prune_vocabulary
from jeton.learn.results import base_bytes_per_token, check_reached, finish, unique_rules


@dataclass(frozen=True, slots=True)
class _Asked:
    """One call of `Extend.learn`; `source` is the base as given, or pruned."""

    texts: Iterable[str]
    given: Vocabulary
    source: Vocabulary
    vocab_size: int
    is_default: bool
    began: float
    progress: Progress

    def learn(self, engine: MergeEngine, num_bytes: int) -> None:
        is_reached = engine.learn(self.vocab_size)
        if not self.is_default:
            check_reached(is_reached, engine.vocab_size, self.vocab_size, num_bytes)


@dataclass(frozen=True, slots=True)
class Extend:
    """Add merges to a byte-level BPE vocabulary, or to a BPE with byte fallback.

    Attributes:
        spans: What one token may cover: "source" (the base's pre-tokenizer), "line" (words within
            a line, and a line end with the next line's indentation), "word", "code", "gpt2", or a
            regular expression. With byte fallback always a word and the spaces before it.
        min_count: Pairs that occur less often are not merged.
        max_token_bytes: Longest new token.
        prune_unused: First take away the base's tokens that the text never needs; the others are
            numbered anew then.
        sample_bytes: Learn from at most so many bytes of text, taken evenly; 0 for all of it.
        num_processes: Processes that count.
    """

    keeps_base_ids: ClassVar[bool] = True

    spans: str = "line"
    min_count: int = 2
    max_token_bytes: int = 64
    prune_unused: bool = False
    sample_bytes: int = 4_000_000
    num_processes: int = 1

    def __post_init__(self) -> None:
        if self.min_count < 1:
            raise ConfigError(f"min_count must be at least 1, got {self.min_count}")
        if self.max_token_bytes < 2:
            raise ConfigError(f"max_token_bytes must be at least 2, got {self.max_token_bytes}")
        if self.sample_bytes < 0:
            raise ConfigError(f"sample_bytes must be 0 or more, got {self.sample_bytes}")

    def learn(
        self,
        texts: Iterable[str],
        base: Vocabulary | Mapping[str, Any] | str | None = None,
        vocab_size: int | None = None,
        *,
        progress: Progress = NO_PROGRESS,
    ) -> LearnedVocabulary:
        """Learn from texts; `vocab_size` defaults to an eighth more than the base's."""
        began = time.perf_counter()
        check_rereadable(texts)
        source = read_base(base)
        if source is None:
            raise ConfigError(
                "extend needs a vocabulary to start from", hint="give base, or use the method bpe"
            )
        check_extendable(source)
        given = source
        if self.prune_unused:
            source = prune_vocabulary(source, texts, progress=progress).vocabulary()
        is_default = vocab_size is None
        if vocab_size is None:
            vocab_size = source.vocab_size + default_growth(source.vocab_size)
        if vocab_size <= source.vocab_size:
            raise ConfigError(
                f"vocab_size {vocab_size} is not above the {source.vocab_size} of the base",
                hint="give a greater size, or prune the vocabulary first",
            )
        chosen = sample(texts, self.sample_bytes) if self.sample_bytes else texts
        asked = _Asked(chosen, given, source, vocab_size, is_default, began, progress)
        return self._over_bytes(asked) if is_byte_level(source) else self._over_characters(asked)

    def _over_bytes(self, asked: _Asked) -> LearnedVocabulary:
        """Extend a byte-level base."""
        given, source, texts = asked.given, asked.source, asked.texts
        pre_tokenizer = pre_tokenizer_for(self.spans, source)
        document = json.loads(source.tokenizer_json or "{}")
        own = count_pretokens(texts, Pretokenizer.from_vocabulary(given))
        document["pre_tokenizer"] = pre_tokenizer
        counts = count_pretokens(
            texts,
            Pretokenizer.from_tokenizer_json(document),
            num_processes=self.num_processes,
            progress=asked.progress,
        )
        start = start_from(source)
        engine = MergeEngine(
            Words.from_packed(counts.packed(), start.byte_ids, start.whole(start.tokens)),
            start.tokens,
            banned=start.banned,
            rules=start.rules,
            min_count=self.min_count,
            max_token_size=max(self.max_token_bytes, max(map(len, start.tokens))),
        )
        asked.learn(engine, counts.num_bytes)
        merges = engine.merges()
        new = merges.pairs[len(start.rules) :].tolist()
        learned = extended_document(source, engine.tokens(), new, pre_tokenizer)
        final = engine
        if start.takes_whole:  # a new token that is a whole piece is taken at once as well
            words = Words.from_packed(counts.packed(), start.byte_ids, start.whole(engine.tokens()))
            final = MergeEngine(
                words, engine.tokens(), banned=start.banned, rules=unique_rules(merges)
            )
            final.replay()
        return finish(
            "extend",
            learned,
            final,
            counts,
            given,
            asked.began,
            source_bytes_per_token=base_bytes_per_token(given, own),
            first_size=source.vocab_size,
        )

    def _over_characters(self, asked: _Asked) -> LearnedVocabulary:
        """Extend a base with byte fallback, within words as its own tokenizer has them."""
        given, source, texts = asked.given, asked.source, asked.texts
        counts = count_pretokens(
            texts,
            Pretokenizer.from_vocabulary(source),
            num_processes=self.num_processes,
            progress=asked.progress,
        )
        before = engine_of(given, counts).num_tokens
        engine = engine_of(source, counts, self.min_count, self.max_token_bytes)
        num_rules = len(engine.merges())
        asked.learn(engine, counts.num_bytes)
        learned = finish(
            "extend",
            extended_contents(source, engine.tokens(), engine.merges().pairs[num_rules:].tolist()),
            engine,
            counts,
            given,
            asked.began,
            source_bytes_per_token=counts.num_bytes / before,
            first_size=source.vocab_size,
            notes=("new tokens lie within words, as the base has byte fallback",),
        )
        size = source.vocab_size
        return replace(learned, num_kept=size, num_new=learned.vocab_size - size)


def default_growth(vocab_size: int) -> int:
    """Return how many tokens are added when no size is given: an eighth, in steps of 64.

    On Python code an eighth more tokens already gave a third more bytes per token; each further
    eighth gave less than half of the one before.
    """
    return min(16384, max(256, vocab_size // 8 // 64 * 64))
