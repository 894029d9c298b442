"""SuperBPE: words first, then merges across the spaces between them.

Source: Liu et al. 2025, https://arxiv.org/abs/2503.13423, section 2 (two stages; the transition
point t is where the second begins) and its vetoes: no token over ": ", none of more than 4 words.
Differs from the source: the size and t are for the user's text, not for 10 GB; the second stage
may take an even sample of the text.
Cost: like BPE for the first stage; the second works on spans of many words that hardly repeat.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from jeton.core.progress import Progress
from jeton.errors import ConfigError
from jeton.learn.contract import LearnedVocabulary
from jeton.learn.counts import count_pretokens, sample
from jeton.learn.engine import MergeEngine, Veto
from jeton.learn.fresh import Fresh, FreshLearner
from jeton.learn.pretokenize import ACROSS_PATTERN
from jeton.learn.results import unique_rules


@dataclass(frozen=True, slots=True)
class SuperBpe(FreshLearner):
    """BPE in two stages.

    Attributes:
        transition: Share of the vocabulary that the first stage fills; 1 is ordinary BPE.
        max_words: Most words in one token; 0 for no limit and no rule for ": ".
        spans: What a token of the first stage may cover; see `bpe`.
        sample_bytes: The second stage learns from at most so many bytes; 0 for all.
        min_count: Pairs that occur less often are not merged.
    """

    transition: float = 0.9
    max_words: int = 4
    spans: str = ""
    sample_bytes: int = 30_000_000
    min_count: int = 1

    def __post_init__(self) -> None:
        if not 0 <= self.transition <= 1:
            raise ConfigError(f"transition must lie between 0 and 1, got {self.transition}")
        for name in ("max_words", "sample_bytes"):
            if getattr(self, name) < 0:
                raise ConfigError(f"{name} must be 0 or more, got {getattr(self, name)}")

    def learn_fresh(
        self, texts: Iterable[str], fresh: Fresh, progress: Progress
    ) -> LearnedVocabulary:
        """Learn from texts; see `FreshLearner.learn_fresh`."""
        first = fresh.pre_tokenizer(self.spans)
        progress.stage("merging inside words")
        counts = count_pretokens(texts, fresh.pretokenizer(first), progress=progress)
        engine = MergeEngine(
            fresh.words(counts),
            fresh.tokens,
            banned=fresh.banned,
            min_count=self.min_count,
            reapply=False,
        )
        num_bytes = len(fresh.tokens)
        engine.learn(num_bytes + int(self.transition * (fresh.vocab_size - num_bytes)))
        rules = unique_rules(engine.merges())

        progress.stage("merging across words")
        second = fresh.pre_tokenizer(ACROSS_PATTERN)
        chosen = sample(texts, self.sample_bytes) if self.sample_bytes else texts
        spans = count_pretokens(chosen, fresh.pretokenizer(second), progress=progress)
        words = fresh.words(spans)
        across = MergeEngine(
            words, engine.tokens(), banned=fresh.banned, rules=rules, min_count=self.min_count
        )
        veto = word_veto(self.max_words) if self.max_words else None
        fresh.learn_to_size(across, spans.num_bytes, veto=veto)
        return fresh.finish("superbpe", across, words, spans, second)


def word_veto(max_words: int) -> Veto:
    """Return the rule that forbids tokens over ": " and tokens of too many words.

    Example:
        >>> veto = word_veto(4)
        >>> veto(b" of", b" the"), veto(b":", b" the"), veto(b" a b c", b" d e")
        (False, True, True)
    """

    def veto(left: bytes, right: bytes) -> bool:
        product = left + right
        words = sum(1 for part in product.split(b" ") if part)
        return words > max_words or b": " in product

    return veto
