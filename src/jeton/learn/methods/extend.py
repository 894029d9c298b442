"""Extend: keep every token of a vocabulary and go on merging on the user's text.

Source: Purason et al. 2025, https://arxiv.org/abs/2512.03989 (continued BPE training).
Differs from the source: the text is segmented by the base's merges exactly as its encoder does it,
a pair whose bytes are a token already costs no new id, and tokens may cover words within a line.
Cost: one pass over the text to count, then time that grows with the number of distinct pieces;
lines repeat less than words, so they are learned from a sample.
"""

import json
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from jeton.core.progress import NO_PROGRESS, Progress
from jeton.core.vocabulary import Vocabulary
from jeton.errors import ConfigError
from jeton.learn.byte_level import (
    check_byte_level,
    extended_document,
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
class Extend:
    """Add merges to a byte-level BPE vocabulary.

    Attributes:
        spans: What one token may cover: "source" (the base's pre-tokenizer), "line" (words within
            a line, and a line end with the next line's indentation), "word", "code", "gpt2", or a
            regular expression.
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
        check_byte_level(source, "extend")
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
        pre_tokenizer = pre_tokenizer_for(self.spans, source)
        document = json.loads(source.tokenizer_json or "{}")
        chosen = sample(texts, self.sample_bytes) if self.sample_bytes else texts
        own = count_pretokens(
            chosen, Pretokenizer.from_tokenizer_json(json.loads(given.tokenizer_json or "{}"))
        )
        document["pre_tokenizer"] = pre_tokenizer
        counts = count_pretokens(
            chosen,
            Pretokenizer.from_tokenizer_json(document),
            num_processes=self.num_processes,
            progress=progress,
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
        is_reached = engine.learn(vocab_size)
        if not is_default:
            check_reached(is_reached, engine.vocab_size, vocab_size, counts.num_bytes)
        merges = engine.merges()
        learned = extended_document(
            source,
            engine.tokens(),
            [(left, right) for left, right in merges.pairs[len(start.rules) :].tolist()],
            pre_tokenizer,
        )
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
            began,
            source_bytes_per_token=base_bytes_per_token(given, own),
            first_size=source.vocab_size,
        )


def default_growth(vocab_size: int) -> int:
    """Return how many tokens are added when no size is given: an eighth, in steps of 64.

    On Python code an eighth more tokens already gave a third more bytes per token; each further
    eighth gave less than half of the one before.
    """
    return min(16384, max(256, vocab_size // 8 // 64 * 64))
