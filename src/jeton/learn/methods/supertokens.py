"""Supertokens: BPE over random chunks of words, so that frequent phrases become tokens.

Source: Sharthak et al. 2025 (TokenAdapt), https://arxiv.org/abs/2505.09738, section on supertoken
learning: probabilistic pre-tokenization, for training only.
Differs from the source: chunks of a text depend on the text and the seed alone, so that shards and
their order do not matter; the finished tokenizer keeps lines apart.
Cost: like BPE, on chunks that repeat less often than words.
"""

import random
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from zlib import crc32

from jeton.core.progress import Progress
from jeton.errors import ConfigError, InputError
from jeton.learn.contract import LearnedVocabulary
from jeton.learn.counts import PretokenCounts, count_pretokens
from jeton.learn.engine import MergeEngine
from jeton.learn.fresh import Fresh, FreshLearner
from jeton.learn.pretokenize import WORD_PATTERN, compile_pattern
from jeton.learn.results import unique_rules


@dataclass(frozen=True, slots=True)
class Supertokens(FreshLearner):
    """BPE over chunks of words.

    Attributes:
        min_words: Fewest pretokens in a chunk.
        max_words: Most pretokens in a chunk.
        seed: Of the chunks.
    """

    min_words: int = 1
    max_words: int = 4
    seed: int = 0

    def __post_init__(self) -> None:
        if not 1 <= self.min_words <= self.max_words:
            raise ConfigError(
                f"1 <= min_words <= max_words must hold, got {self.min_words}, {self.max_words}"
            )

    def learn_fresh(
        self, texts: Iterable[str], fresh: Fresh, progress: Progress
    ) -> LearnedVocabulary:
        """Learn from texts; see `FreshLearner.learn_fresh`."""
        lines = fresh.pre_tokenizer("line")
        bound = fresh.pretokenizer(lines).bind()
        chunks: Counter[str] = Counter()
        num_bytes = num_documents = 0
        for text in progress.track(texts, None, "counting", "text"):
            num_bytes += len(text.encode("utf-8", errors="surrogatepass"))
            num_documents += 1
            # A line that repeats is cut once: its chunks depend on its content alone.
            for line, count in bound(text).items():
                for chunk in random_chunks(line, self.min_words, self.max_words, self.seed):
                    chunks[chunk] += count
        if not num_bytes:
            raise InputError("the texts are empty", hint="give text to learn from")
        data = {c.encode("utf-8", errors="surrogatepass"): n for c, n in chunks.items()}
        counts = PretokenCounts(data, num_bytes, num_documents)
        engine = MergeEngine(fresh.words(counts), fresh.tokens, banned=fresh.banned, reapply=False)
        fresh.learn_to_size(engine, num_bytes)
        progress.stage("measuring")
        whole = count_pretokens(texts, fresh.pretokenizer(lines), progress=progress)
        words = fresh.words(whole)
        final = MergeEngine(words, engine.tokens(), rules=unique_rules(engine.merges()))
        final.replay()
        return fresh.finish("supertokens", final, words, whole, lines)


def random_chunks(line: str, min_words: int, max_words: int, seed: int) -> Iterator[str]:
    """Yield consecutive chunks of `min_words` to `max_words` pretokens; they join to the line.

    Example:
        >>> list(random_chunks("one two three", 2, 2, 0))
        ['one two', ' three']
    """
    words = compile_pattern(WORD_PATTERN).findall(line)
    draw = random.Random(crc32(line.encode("utf-8", errors="surrogatepass")) ^ seed)
    start = 0
    while start < len(words):
        end = start + draw.randint(min_words, max_words)
        yield "".join(words[start:end])
        start = end
