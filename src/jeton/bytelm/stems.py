"""Stems: all ways to begin a text in tokens, kept side by side while bytes arrive.

Source: Phan et al. 2024, "Exact Byte-Level Probabilities from Tokenized Language Models",
https://arxiv.org/abs/2410.09303 (the byte-token representation lemma).

A stem is a sequence of tokens u whose bytes end before or at the end of the text, with its weight
log P(u); the rest of the text after u is the beginning of one more token. The stem keeps the range
of tokens that this can be. P(text) is the sum over stems of P(u) times the mass of the range. On a
new byte every range narrows; a token that now equals the rest becomes a stem of its own and leaves
the range, or it would be counted twice.

A new stem's weight is known before the model has read it. Where every tokenization counts there
are exponentially many: the largest are read first, the others stay deferred while their sum is a
small share of P(text). P(text) lies between the mass that was read and that plus the deferred sum.
"""

import math
from collections.abc import Hashable
from dataclasses import dataclass, replace

import numpy as np

from jeton.bytelm.contract import END, NUM_SYMBOLS, FloatArray, Measure, Rule, TokenLM
from jeton.bytelm.lexicon import Lexicon

_DEFERRED = 8  # deferred stems per live one at most: they cost no forward, only memory
_BATCH = 32  # deferred stems that are read in one forward; wider forwards gain little


@dataclass(frozen=True, slots=True)
class Node:
    """The probabilities after one path.

    Attributes:
        p: By place in the order of bytes, shape (tokens,); sums to 1 with `end`.
        end: Of end-of-text.
        spawns: Which tokens the rule allows, by place; None when `p` says it.
    """

    p: FloatArray
    end: float
    spawns: "np.ndarray | None"


@dataclass(frozen=True, slots=True)
class Stem:
    """A sequence of tokens and the tokens of which the rest of the text is a true beginning."""

    path: int
    logw: float
    state: Hashable
    node: Node
    low: int
    high: int
    depth: int
    logmass: float  # of the range, and of the end where the rest is empty


@dataclass(frozen=True, slots=True)
class Deferred:
    """A stem that the model has not read: its rest began at byte `birth` of the text."""

    path: int
    logw: float
    state: Hashable
    birth: int


@dataclass(frozen=True)
class Settings:
    """What all stems of one model share.

    Attributes:
        lm: The token model.
        lexicon: Its tokens by bytes.
        rule: Which sequences count.
        measure: How.
        epsilon: Deferred share of P(text) that is left unread; 0 reads everything.
        max_stems: Stems kept at most, and eight times as many deferred ones; beyond it the
            smallest are given up into the bounds.
    """

    lm: TokenLM
    lexicon: Lexicon
    rule: Rule
    measure: Measure
    epsilon: float
    max_stems: int

    def make_node(self, logprobs: FloatArray, state: Hashable) -> Node:
        """Return the probabilities of one path under the measure."""
        lexicon = self.lexicon
        bits, may_end = self.rule.mask(state)
        spawns = None if bits is None else lexicon.places(bits)
        allowed = spawns if self.measure is Measure.CANONICAL else None
        p = logprobs[lexicon.ids]
        ends = logprobs[lexicon.eos_ids] if may_end or allowed is None else logprobs[:0]
        top = float(p.max(initial=-np.inf, where=True if allowed is None else allowed))
        top = max([top, *ends.tolist()])
        if top == -math.inf:
            return Node(np.zeros(len(p)), 0.0, spawns)
        p -= p.dtype.type(top)
        np.exp(p, out=p)
        if allowed is not None:
            p *= allowed
            spawns = None
        end = float(np.exp(ends - top).sum(dtype=np.float64)) if len(ends) else 0.0
        total = float(p.sum(dtype=np.float64)) + end
        p *= p.dtype.type(1.0 / total)
        return Node(p, end / total, spawns)


class Stems:
    """All stems of one text so far; immutable: `advance` returns new ones.

    Attributes:
        text: The bytes of the text's tokens (with the start rule's space), context not included.
        live: Stems that the model has read.
        deferred: Stems that it has not.
        lost: Probability given up beyond `max_stems`, log.
        offset: What was added to the logs of all weights: the text is given its leading space.
        leak: Log of the share of mass that `fast` has dropped so far, negative or 0.
    """

    def __init__(
        self,
        settings: Settings,
        text: bytes,
        live: list[Stem],
        deferred: list[Deferred],
        lost: float = -math.inf,
        leak: float = 0.0,
        offset: float = 0.0,
    ) -> None:
        self.settings = settings
        self.text = text
        self.live = live
        self.deferred = deferred
        self.lost = lost
        self.leak = leak
        self.offset = offset

    @classmethod
    def begin(cls, settings: Settings, context: int) -> "Stems":
        """Return the stems of the empty text behind some context, a number of `lm.paths`."""
        lexicon, rule = settings.lexicon, settings.rule
        state = rule.start()
        first = cls.from_node(settings, context, state)
        if not lexicon.strips_space:
            return first
        root, size = first.live[0], len(lexicon)
        node = root.node
        bounds = lexicon.bounds(0, size, 0)
        space, after = int(bounds[0x20]), int(bounds[0x21])
        stems = first.advance(0x20)
        if settings.measure is not Measure.ALL:  # canonical texts have the space
            total = stems.logprob
            live = [replace(s, logw=s.logw - total, logmass=s.logmass - total) for s in stems.live]
            return cls(settings, stems.text, live, [], offset=-total)
        # a text also begins without the space, which then is no byte of it
        bare = node.p.copy()
        bare[space:after] = 0.0
        mass = _log(float(bare.sum()) + node.end)
        without = Stem(context, 0.0, state, Node(bare, node.end, node.spawns), 0, size, 0, mass)
        return cls(settings, b" ", [without, *stems.live], stems.deferred, stems.lost)

    @classmethod
    def from_node(cls, settings: Settings, path: int, state: Hashable) -> "Stems":
        """Return the one stem that ends with a sequence of tokens, of weight 1."""
        node = settings.make_node(settings.lm.logprobs([path], path)[0], state)
        return cls(settings, b"", [Stem(path, 0.0, state, node, 0, len(node.p), 0, 0.0)], [])

    @property
    def logprob(self) -> float:
        """Log of the mass that was read: a lower bound of log P(text)."""
        return _logsumexp([stem.logmass for stem in self.live])

    @property
    def log_unread(self) -> float:
        """Log of what the lower bound may lack."""
        return _logsumexp([self.lost, *(d.logw for d in self.deferred)])

    @property
    def num_stems(self) -> int:
        """Stems in all."""
        return len(self.live) + len(self.deferred)

    def symbol_logs(self) -> FloatArray:
        """Return log P(text + symbol) as far as read, shape (257,)."""
        lexicon = self.settings.lexicon
        sums = np.zeros(NUM_SYMBOLS)
        if not self.live:
            return np.full(NUM_SYMBOLS, -np.inf)
        scale = max(stem.logw for stem in self.live)
        for stem in self.live:
            weight = math.exp(stem.logw - scale)
            found = lexicon.byte_sums(stem.node.p, stem.low, stem.high, stem.depth)
            sums[:END] += weight * found
            if stem.depth == 0:
                sums[END] += weight * stem.node.end
        with np.errstate(divide="ignore"):
            return np.log(sums) + scale

    def advance(self, byte: int) -> "Stems":
        """Return the stems of the text with one more byte."""
        text = self.text + bytes([byte])
        live: list[Stem] = []
        born: list[Deferred] = []
        dropped = [-math.inf]
        for stem in self.live:
            kept = self._narrow(stem, byte, len(text), born, dropped)
            if kept is not None:
                live.append(kept)
        leak = self.leak
        if self.settings.measure is Measure.FAST:
            kept_mass = _logsumexp([s.logmass for s in live] + [d.logw for d in born])
            gone = _logsumexp(dropped)
            if gone > -math.inf and kept_mass > -math.inf:
                leak += kept_mass - _logsumexp([kept_mass, gone])
        deferred = [*self.deferred, *born]
        after = Stems(self.settings, text, live, deferred, self.lost, leak, self.offset)
        if self.settings.epsilon > 0.0 and after.live:
            after._give_up()
        after._resolve()
        return after

    def _narrow(
        self, stem: Stem, byte: int, end: int, born: list[Deferred], dropped: list[float]
    ) -> Stem | None:
        """Narrow a range by a byte; tokens that end with it are born as stems."""
        settings, lexicon = self.settings, self.settings.lexicon
        bounds = lexicon.bounds(stem.low, stem.high, stem.depth)
        low, high = int(bounds[byte]), int(bounds[byte + 1])
        if low == high:
            return None
        depth = stem.depth + 1
        first = lexicon.first_longer(low, high, depth)
        node = stem.node
        for place in range(low, first):
            p = float(node.p[place])
            if p <= 0.0:
                continue
            logw = stem.logw + math.log(p)
            if node.spawns is not None and not node.spawns[place]:
                dropped.append(logw)
                continue
            token_id = int(lexicon.ids[place])
            state = settings.rule.step(stem.state, token_id)
            child = settings.lm.paths.child(stem.path, token_id)
            born.append(Deferred(child, logw, state, end))
        mass = float(node.p[first:high].sum(dtype=np.float64)) if first < high else 0.0
        if not mass > 0.0:
            return None
        return replace(stem, low=first, high=high, depth=depth, logmass=stem.logw + math.log(mass))

    def _resolve(self) -> None:
        """Read deferred stems, largest first, until the rest is a small enough share."""
        settings = self.settings
        log_epsilon = _log(settings.epsilon)
        while self.deferred:
            limit, rest, size = log_epsilon + self.logprob, -math.inf, len(self.deferred)
            self.deferred.sort(key=lambda d: -d.logw)
            while size:  # no more than it takes
                rest = _logsumexp([rest, self.deferred[size - 1].logw])
                if rest > limit:
                    break
                size -= 1
            if settings.epsilon > 0.0:
                size = min(size, _BATCH)
            if not size:
                break
            batch = self.deferred[: min(size, settings.max_stems)]
            self.deferred = self.deferred[len(batch) :]
            self._read(batch)
            self._give_up()

    def _give_up(self) -> None:
        """Move what exceeds the cap, or cannot matter, into the bounds."""
        settings = self.settings
        gone: list[float] = []
        if len(self.live) > settings.max_stems:
            self.live.sort(key=lambda stem: -stem.logmass)
            gone += [stem.logmass for stem in self.live[settings.max_stems :]]
            self.live = self.live[: settings.max_stems]
            least = self.live[-1].logmass  # a deferred one below it would be given up as well
            gone += [d.logw for d in self.deferred if d.logw <= least]
            self.deferred = [d for d in self.deferred if d.logw > least]
        most = _DEFERRED * settings.max_stems
        if settings.epsilon > 0.0 and len(self.deferred) > most:
            self.deferred.sort(key=lambda d: -d.logw)
            gone += [d.logw for d in self.deferred[most:]]
            self.deferred = self.deferred[:most]
        if gone:
            self.lost = _logsumexp([self.lost, *gone])

    def _read(self, batch: list[Deferred]) -> None:
        settings = self.settings
        born_here = [d.path for d in batch]
        keep = settings.lm.paths.common([*(s.path for s in self.live), *born_here])
        rows = settings.lm.logprobs(born_here, keep)
        size = len(settings.lexicon)
        for deferred, row in zip(batch, rows, strict=True):
            node = settings.make_node(row, deferred.state)
            stem: Stem | None = Stem(
                deferred.path, deferred.logw, deferred.state, node, 0, size, 0, deferred.logw
            )
            for end in range(deferred.birth, len(self.text)):
                if stem is None:
                    break
                born: list[Deferred] = []
                stem = self._narrow(stem, self.text[end], end + 1, born, [])
                self.deferred.extend(born)
            if stem is not None and (node.p.any() or node.end > 0.0):
                self.live.append(stem)

    def covers(self) -> list[tuple[int, float]]:
        """Return every cover of the text (in `lm.paths`) with its log probability, best first.

        A cover's last token overhangs the end of the text, or ends with it.
        """
        lexicon = self.settings.lexicon
        child = self.settings.lm.paths.child
        found: list[tuple[int, float]] = [
            (d.path, d.logw) for d in self.deferred if d.birth == len(self.text)
        ]
        for stem in self.live:
            if stem.depth == 0:
                found.append((stem.path, stem.logmass))
                continue
            p = stem.node.p[stem.low : stem.high]
            for place in np.flatnonzero(p).tolist():
                token_id = int(lexicon.ids[stem.low + place])
                found.append((child(stem.path, token_id), stem.logw + math.log(p[place])))
        return sorted(found, key=lambda item: (-item[1], item[0]))


def _log(x: float) -> float:
    return math.log(x) if x > 0.0 else -math.inf


def _logsumexp(values: list[float]) -> float:
    top = max(values, default=-math.inf)
    if top == -math.inf:
        return top
    return top + math.log(math.fsum(math.exp(v - top) for v in values))
