"""Less-is-Better: read as with the least effort, remember what stands together, forget the rest.

Source: Yang 2024, https://arxiv.org/abs/2403.00417; the model is that of Yang, Cai, Frank and
van den Bosch 2020, sections on memorising, re-ranking and forgetting.
Differs from the source: articles are blocks of lines drawn by a seed from the texts in the order
of their content; moves in the ranking take effect after sixteen of them; it remembers eight times
what is asked for and ends by forgetting what is used least; the finished tokenizer reads a line
with the fewest tokens instead of the longest match first.
Cost: about 5 CPU seconds per MB read and pass; it learns from a sample.
"""

import random
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import pairwise

from jeton.core.progress import Progress
from jeton.errors import ConfigError
from jeton.learn.contract import LearnedVocabulary
from jeton.learn.counts import count_pretokens, sample
from jeton.learn.fresh import Fresh, FreshLearner
from jeton.learn.pieces import finish_pieces, most_used

_ARTICLE_CHARACTERS = 2000
_ARTICLES_PER_RANKING = 16  # numbering all chunks takes longer than an article


@dataclass(frozen=True, slots=True)
class Lib(FreshLearner):
    """Chunks of characters that are worth remembering.

    Attributes:
        memorise: Chance that two adjacent chunks, seen together before, become one.
        max_characters: Longest chunk.
        max_gap: Longest run of unknown characters that becomes a chunk.
        demotion: Share of its rank by which a chunk that lost moves back.
        forgetting: Share of the ranking's end that is on probation at each ranking.
        lives: Rankings that a chunk on probation survives.
        passes: Most times that the sample is read.
        sample_bytes: Learn from at most so many bytes of text, taken evenly; 0 for all.
        seed: Of the order and of memorising.
    """

    memorise: float = 0.25
    max_characters: int = 12
    max_gap: int = 2
    demotion: float = 0.2
    forgetting: float = 0.0001
    lives: int = 10
    passes: int = 4
    sample_bytes: int = 1_000_000
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("memorise", "demotion", "forgetting"):
            if not 0 < getattr(self, name) <= 1:
                raise ConfigError(f"{name} must lie between 0 and 1, got {getattr(self, name)}")
        for name, least in (("max_characters", 2), ("max_gap", 1), ("lives", 1), ("passes", 1)):
            if getattr(self, name) < least:
                raise ConfigError(f"{name} must be at least {least}, got {getattr(self, name)}")

    def learn_fresh(
        self, texts: Iterable[str], fresh: Fresh, progress: Progress
    ) -> LearnedVocabulary:
        """Learn from texts; see `FreshLearner.learn_fresh`."""
        lines = fresh.pre_tokenizer("line")
        pretokenizer = fresh.pretokenizer(lines)
        counts = count_pretokens(texts, pretokenizer, progress=progress)
        bound = pretokenizer.bind()
        chosen = sample(texts, self.sample_bytes) if self.sample_bytes else list(texts)
        articles = [list(bound(article)) for text in sorted(chosen) for article in _articles(text)]
        reader = _Reader(self, random.Random(self.seed))
        wanted = fresh.vocab_size - len(fresh.tokens)
        for _ in range(self.passes):
            before = len(reader.rank)
            reader.draw.shuffle(articles)
            for article in progress.track(articles, len(articles), "reading", "article"):
                reader.read(article)
            if len(reader.rank) == before or len(reader.rank) > 8 * wanted:
                break
        ordered = (chunk.encode("utf-8", errors="surrogatepass") for chunk in reader.ordered())
        pieces = list(dict.fromkeys([*ordered, *(bytes([byte]) for byte in range(256))]))
        pieces = most_used(pieces, counts.packed(), max(wanted, 0))
        return finish_pieces("lib", fresh, pieces, [-1.0] * len(pieces), counts, lines)


class _Reader:
    """The ranking of chunks, first the best, and what reading does to it."""

    def __init__(self, options: Lib, draw: random.Random) -> None:
        self.options, self.draw = options, draw
        self.rank: dict[str, float] = {}
        self._seen: set[str] = set()
        self._lives: dict[str, int] = {}
        self._moves: dict[str, float] = {}
        self._num_read = 0

    def ordered(self) -> list[str]:
        """Return the chunks, the best first."""
        return sorted(self.rank, key=lambda chunk: (self.rank[chunk], chunk))

    def read(self, article: list[str]) -> None:
        """Read pieces of text that chunks do not cross, then rank anew and forget."""
        for piece in article:
            self._memorise(self._cut(piece))
        self._num_read += 1
        if self._num_read % _ARTICLES_PER_RANKING:
            return
        while self._moves:
            chunk, move = self._moves.popitem()
            self.rank[chunk] = self.rank[chunk] * move + (0.5 if move > 1 else -0.5)
        ordered = self.ordered()
        self.rank = {chunk: float(place) for place, chunk in enumerate(ordered)}
        for chunk in ordered[-max(1, int(self.options.forgetting * len(ordered))) :]:
            self._lives[chunk] = self._lives.get(chunk, self.options.lives) - 1
            if self._lives[chunk] <= 0:
                del self.rank[chunk], self._lives[chunk]

    def _matches(self, text: str, start: int) -> Iterator[int]:
        """Yield the ends of the chunks that start at a place, the longest first."""
        for end in range(min(len(text), start + self.options.max_characters), start, -1):
            if text[start:end] in self.rank:
                yield end

    def _cut(self, text: str) -> list[str]:
        """Return the text as chunks by longest match; unknown characters stay single."""
        chunks, at = [], 0
        while at < len(text):
            ends = self._matches(text, at)
            end = next(ends, at + 1)
            if other := next(ends, 0):
                end = self._better(text, at, end, other)
            chunks.append(text[at:end])
            at = end
        return chunks

    def _better(self, text: str, start: int, first: int, second: int) -> int:
        """Read on from both matches until they meet again; move the chunks of both ways."""
        ways = ([text[start:first]], [text[start:second]])
        ends = [first, second]
        while ends[0] != ends[1] and min(ends) < len(text):
            side = 0 if ends[0] < ends[1] else 1
            end = next(self._matches(text, ends[side]), ends[side] + 1)
            ways[side].append(text[ends[side] : end])
            ends[side] = end
        cost = []
        for way in ways:
            unknown = sum(1 for chunk in way if chunk not in self.rank)
            cost.append((unknown, len(way), sum(self.rank.get(chunk, 0.0) for chunk in way)))
        winner = 0 if cost[0] <= cost[1] else 1
        self._moves[ways[1 - winner][0]] = 1 + self.options.demotion
        self._moves[ways[winner][0]] = 1 / (1 + self.options.demotion)
        return (first, second)[winner]

    def _memorise(self, chunks: list[str]) -> None:
        """Remember unknown gaps at once, and neighbours on the second sighting, by chance."""
        gap = ""
        for chunk in [*chunks, ""]:
            if chunk and chunk not in self.rank:
                gap += chunk
                continue
            for known in [gap] if 0 < len(gap) <= self.options.max_gap else gap:
                self.rank.setdefault(known, float(len(self.rank)))
            gap = ""
        for left, right in pairwise(chunks):
            both = left + right
            if len(both) > self.options.max_characters or both in self.rank:
                continue
            if both not in self._seen:
                self._seen.add(both)
            elif self.draw.random() < self.options.memorise:
                self.rank[both] = float(len(self.rank))


def _articles(text: str) -> Iterator[str]:
    """Yield blocks of lines of about the size of an article."""
    start = 0
    while start < len(text):
        end = text.find("\n", start + _ARTICLE_CHARACTERS) + 1 or len(text)
        yield text[start:end]
        start = end
