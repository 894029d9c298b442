"""KL3M character tokenizer: BPE whose tokens have a few characters at most.

Source: Bommarito et al. 2025, https://arxiv.org/abs/2503.17247 (kl3m-004-char: 4k, 8k and 16k
tokens of at most 3 or 4 characters, for correcting and normalising text: the borders of tokens
stay where they are when a letter is wrong).
Differs from the source: the size need not be a power of two, so no runs of spaces pad it.
Cost: like BPE.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar

from jeton.core.progress import Progress
from jeton.errors import ConfigError
from jeton.learn.contract import LearnedVocabulary
from jeton.learn.counts import count_pretokens
from jeton.learn.engine import MergeEngine
from jeton.learn.fresh import Fresh, FreshLearner


@dataclass(frozen=True, slots=True)
class Kl3mChar(FreshLearner):
    """BPE with short tokens.

    Attributes:
        max_characters: Most characters in one token; 3 or 4 in the paper.
        min_count: Pairs that occur less often are not merged; 1000 in the paper, on much text.
        spans: What a token may cover; see `bpe`.
    """

    default_size: ClassVar[int | None] = 4096

    max_characters: int = 3
    min_count: int = 1
    spans: str = ""

    def __post_init__(self) -> None:
        if self.max_characters < 2:
            raise ConfigError(f"max_characters must be at least 2, got {self.max_characters}")
        if self.min_count < 1:
            raise ConfigError(f"min_count must be at least 1, got {self.min_count}")

    def learn_fresh(
        self, texts: Iterable[str], fresh: Fresh, progress: Progress
    ) -> LearnedVocabulary:
        """Learn from texts; see `FreshLearner.learn_fresh`."""
        pre_tokenizer = fresh.pre_tokenizer(self.spans)
        counts = count_pretokens(texts, fresh.pretokenizer(pre_tokenizer), progress=progress)
        words = fresh.words(counts)
        engine = MergeEngine(
            words,
            fresh.tokens,
            banned=fresh.banned,
            sizes=[num_characters(token) for token in fresh.tokens],
            max_token_size=self.max_characters,
            min_count=self.min_count,
            reapply=False,
        )
        fresh.learn_to_size(engine, counts.num_bytes)
        return fresh.finish("kl3m_char", engine, words, counts, pre_tokenizer)


def num_characters(data: bytes) -> int:
    """Return how many characters begin in the bytes; counts of parts add up.

    Example:
        >>> num_characters("é語".encode()), num_characters(b"\\xa9")
        (2, 0)
    """
    return sum(1 for byte in data if byte & 0xC0 != 0x80)
