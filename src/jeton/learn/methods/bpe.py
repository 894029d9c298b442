"""Byte-level BPE, learned afresh.

Source: Sennrich et al. 2016, https://arxiv.org/abs/1508.07909, algorithm 1; on bytes as in GPT-2
(Radford et al. 2019).
Differs from the source: works on counts of pretokens, not of words with an end mark; pairs of equal
count are merged in the order of their ids, as the trainer of Hugging Face `tokenizers` does.
Cost: one pass over the text to count, then time that grows with the number of distinct pretokens.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from jeton.core.progress import Progress
from jeton.errors import ConfigError
from jeton.learn.contract import LearnedVocabulary
from jeton.learn.counts import count_pretokens
from jeton.learn.engine import MergeEngine
from jeton.learn.fresh import Fresh, FreshLearner


@dataclass(frozen=True, slots=True)
class Bpe(FreshLearner):
    """Byte-level BPE.

    Attributes:
        spans: What one token may cover: "source" (the base's pre-tokenizer), "word", "code" (a line
            end takes its indentation along), "gpt2", "line", or a regular expression; empty for
            the base's where it has one, else "word".
        min_count: Pairs that occur less often are not merged.
        max_token_bytes: Longest token; 0 for no limit.
        num_processes: Processes that count.
    """

    spans: str = ""
    min_count: int = 1
    max_token_bytes: int = 0
    num_processes: int = 1

    def __post_init__(self) -> None:
        if self.min_count < 1:
            raise ConfigError(f"min_count must be at least 1, got {self.min_count}")
        if self.max_token_bytes < 0 or self.max_token_bytes == 1:
            raise ConfigError(f"max_token_bytes must be 0 or above 1, got {self.max_token_bytes}")

    def learn_fresh(
        self, texts: Iterable[str], fresh: Fresh, progress: Progress
    ) -> LearnedVocabulary:
        """Learn from texts; see `FreshLearner.learn_fresh`."""
        pre_tokenizer = fresh.pre_tokenizer(self.spans)
        counts = count_pretokens(
            texts,
            fresh.pretokenizer(pre_tokenizer),
            num_processes=self.num_processes,
            progress=progress,
        )
        words = fresh.words(counts)
        engine = MergeEngine(
            words,
            fresh.tokens,
            banned=fresh.banned,
            min_count=self.min_count,
            max_token_size=self.max_token_bytes or None,
            reapply=False,
        )
        fresh.learn_to_size(engine, counts.num_bytes)
        return fresh.finish("bpe", engine, words, counts, pre_tokenizer)
