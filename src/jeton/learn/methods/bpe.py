"""Byte-level BPE, learned afresh.

Source: Sennrich et al. 2016, https://arxiv.org/abs/1508.07909, algorithm 1; on bytes as in GPT-2
(Radford et al. 2019).
Differs from the source: works on counts of pretokens, not of words with an end mark; pairs of equal
count are merged in the order of their ids, as the trainer of Hugging Face `tokenizers` does.
Cost: one pass over the text to count, then time that grows with the number of distinct pretokens.
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
    added_entries,
    fresh_document,
    is_byte_level,
    pre_tokenizer_for,
    read_base,
)
from jeton.learn.contract import LearnedVocabulary
from jeton.learn.counts import check_rereadable, count_pretokens
from jeton.learn.engine import MergeEngine, Words
from jeton.learn.pretokenize import Pretokenizer
from jeton.learn.results import (
    byte_order,
    check_reached,
    finish,
    replayed,
    unique_rules,
)

DEFAULT_VOCAB_SIZE = 8192


@dataclass(frozen=True, slots=True)
class Bpe:
    """Byte-level BPE.

    Attributes:
        spans: What one token may cover: "source" (the base's pre-tokenizer), "word", "code" (a line
            end takes its indentation along), "gpt2", "line", or a regular expression; empty for
            the base's where it has one, else "word".
        min_count: Pairs that occur less often are not merged.
        max_token_bytes: Longest token; 0 for no limit.
        special_tokens: Special tokens beside those of the base, separated by commas.
        num_processes: Processes that count.
    """

    keeps_base_ids: ClassVar[bool] = False

    spans: str = ""
    min_count: int = 1
    max_token_bytes: int = 0
    special_tokens: str = ""
    num_processes: int = 1

    def __post_init__(self) -> None:
        if self.min_count < 1:
            raise ConfigError(f"min_count must be at least 1, got {self.min_count}")
        if self.max_token_bytes < 0 or self.max_token_bytes == 1:
            raise ConfigError(f"max_token_bytes must be 0 or above 1, got {self.max_token_bytes}")

    def learn(
        self,
        texts: Iterable[str],
        base: Vocabulary | Mapping[str, Any] | str | None = None,
        vocab_size: int | None = None,
        *,
        progress: Progress = NO_PROGRESS,
    ) -> LearnedVocabulary:
        """Learn from texts; `vocab_size` defaults to the base's, without a base to 8192."""
        began = time.perf_counter()
        check_rereadable(texts)
        source = read_base(base)
        if vocab_size is None:
            vocab_size = source.vocab_size if source else DEFAULT_VOCAB_SIZE
        spans = self.spans or ("source" if source and is_byte_level(source) else "word")
        pre_tokenizer = pre_tokenizer_for(spans, source)
        added = added_entries(source, [t for t in self.special_tokens.split(",") if t])
        byte_ids, tokens = byte_order([entry["content"] for entry in added])
        if vocab_size < len(tokens):
            raise ConfigError(
                f"vocab_size {vocab_size} is below the {len(added)} added tokens and 256 bytes",
                hint=f"give at least {len(tokens)}",
            )
        normalizer = None
        if source is not None and is_byte_level(source):
            normalizer = json.loads(source.tokenizer_json or "{}").get("normalizer")
        document = {"pre_tokenizer": pre_tokenizer, "normalizer": normalizer}
        counts = count_pretokens(
            texts,
            Pretokenizer.from_tokenizer_json(document),
            num_processes=self.num_processes,
            progress=progress,
        )
        words = Words.from_bytes(counts.sorted_items(), byte_ids)
        engine = MergeEngine(
            words,
            tokens,
            banned=range(len(added)),
            min_count=self.min_count,
            max_token_size=self.max_token_bytes or None,
            reapply=False,
        )
        is_reached = engine.learn(vocab_size)
        check_reached(is_reached, engine.vocab_size, vocab_size, counts.num_bytes)
        rules = unique_rules(engine.merges())
        learned = fresh_document(
            engine.tokens(), [(a, b) for a, b, _ in rules], pre_tokenizer, source, added
        )
        final = replayed(engine, words, rules)
        return finish("bpe", learned, final, counts, source, began)
