"""The probability of a known text, byte by byte, in a few forwards.

Which stems a text has is known without the model (`growth.py`). They are one token tree, which is
read some hundred nodes at a time; each node gives the weights of the stems behind it and the
probability of all texts that go on as this one does, for as many bytes as its longest token has.

Cost: one node for each byte or little more, where a token forward has one for each token. A text
longer than the model's context is read in windows, as in `lm.bits`.
"""

import math
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from jeton.bytelm.byte_lm import ByteLM
from jeton.bytelm.contract import END, FloatArray, Measure
from jeton.bytelm.growth import Growth
from jeton.bytelm.kernels import range_sums
from jeton.bytelm.prompt import Prompt
from jeton.bytelm.runner_lm import RunnerLM
from jeton.errors import EncodingError, UnsupportedModelError

_LOGIT_BYTES = 1 << 27  # of one forward's float32 logits
_MOST_NODES = 512  # of one forward: beyond, the mask costs more than the calls it saves
_AHEAD = 64  # bytes whose encoding is read in one forward where stems go byte by byte
_BLOCK = 1 << 19  # logits that are turned into probabilities at a time: they fit in the cache


@dataclass(frozen=True)
class ByteScore:
    """What a text costs.

    Attributes:
        logprobs: Of each byte given those before it, nats, shape (bytes,).
        end_logprob: Of the end of text behind the last byte.
        log_unread: Log of what all of them together may lack (`all`), -inf where nothing.
        leak: Log of the share of mass that `fast` dropped, 0 elsewhere.
        num_nodes: Tokens that the model has read.
        reason: Why the text has no probability; None where it has one.
    """

    logprobs: FloatArray = field(repr=False)
    end_logprob: float
    log_unread: float = -math.inf
    leak: float = 0.0
    num_nodes: int = 0
    reason: str | None = None

    @property
    def logprob(self) -> float:
        """Of the bytes as the beginning of a text."""
        return float(self.logprobs.sum())

    @property
    def string_logprob(self) -> float:
        """Of the bytes as a whole text."""
        return self.logprob + self.end_logprob

    @property
    def bits_per_byte(self) -> float:
        """Bits of the bytes, their end not counted, per byte."""
        return -self.logprob / math.log(2) / max(1, len(self.logprobs))


def score(byte_lm: ByteLM, data: bytes | str, context: Prompt = b"") -> ByteScore:
    """Return the probabilities of some bytes behind a context.

    Args:
        byte_lm: The model; any measure.
        data: What is scored. The context may end inside a token, and so may this.
        context: What stands before, as for `ByteLM.state`.
    Returns:
        The score; all -inf, with a reason, for bytes that no canonical text has.

    Example:
        >>> from jeton.testing.models import tiny_language_model
        >>> result = score(ByteLM(tiny_language_model()), b"hello")
        >>> result.logprobs.shape, result.logprob < 0.0
        ((5,), True)
    """
    data = data.encode("utf-8", "surrogatepass") if isinstance(data, str) else bytes(data)
    if byte_lm.measure is Measure.ALL or not isinstance(byte_lm.token_lm, RunnerLM):
        return _step_by_step(byte_lm, data, context)
    root, before = byte_lm.read_context(context)
    reason = _why_never(byte_lm, before + data)
    if reason is not None:
        return ByteScore(np.full(len(data), -np.inf), -math.inf, reason=reason)
    try:
        growth = byte_lm.grow(root, before + data)
    except EncodingError as error:
        return ByteScore(np.full(len(data), -np.inf), -math.inf, reason=str(error))
    _check_canonical(byte_lm, growth, root, before + data)
    scorer = _Scorer(byte_lm, byte_lm.token_lm, growth)
    scorer.run()
    return scorer.result(len(data))


def _why_never(byte_lm: ByteLM, data: bytes) -> str | None:
    """Return why a text is never written; None also where only its end cannot be."""
    vocabulary = byte_lm.vocabulary
    reason = vocabulary.why_not_lossless(data)
    if reason is None or (vocabulary.normalizer is None and not reason.startswith("it is not UTF")):
        return None
    return reason


def _check_canonical(byte_lm: ByteLM, growth: Growth, root: int, data: bytes) -> None:
    """Find out a rule that has lost the tokenizer's own encoding."""
    try:
        ids = byte_lm.vocabulary.encode(data)
    except EncodingError:
        return
    paths = byte_lm.token_lm.paths
    if growth.find(paths.extend(root, ids)) < 0:
        raise UnsupportedModelError(
            f"the rule of {byte_lm.vocabulary.name} misses the encoding of this text",
            hint="please report the text; measure 'all' needs no rule",
        )


def _step_by_step(byte_lm: ByteLM, data: bytes, context: Prompt) -> ByteScore:
    """Score byte after byte: where tokenizations cannot be known ahead."""
    state = byte_lm.state(context)
    logprobs, widest = np.empty(len(data)), -math.inf
    lm = byte_lm.token_lm
    start = lm.num_nodes if isinstance(lm, RunnerLM) else 0
    route = _route(byte_lm, data, context)
    for place, byte in enumerate(data):
        if place % _AHEAD == 0 and isinstance(lm, RunnerLM):
            nodes = [node for end, node in route if place < end <= place + _AHEAD]
            if nodes:
                lm.prefetch(nodes, lm.paths.common([s.path for s in state.stems.live] + nodes[:1]))
        conditional = float(state.next_logprobs()[byte])
        before = state.logprob
        state = state.advance(byte)
        logprobs[place] = conditional if byte_lm.measure is Measure.FAST else state.logprob - before
        widest = max(widest, state.stems.log_unread - state.stems.logprob)
    read = lm.num_nodes - start if isinstance(lm, RunnerLM) else 0
    end = float(state.next_logprobs()[END])
    return ByteScore(logprobs, end, widest, state.leak, read)


def _route(byte_lm: ByteLM, data: bytes, context: Prompt) -> list[tuple[int, int]]:
    """Return the nodes of the tokenizer's own encoding, with their ends in the data."""
    node, before = byte_lm.read_context(context)
    try:
        ids = byte_lm.vocabulary.encode(before + data)
    except EncodingError:
        return []
    route = []
    ends = byte_lm.vocabulary.token_offsets(ids) - len(before)
    for token_id, end in zip(ids, ends.tolist(), strict=True):
        node = byte_lm.token_lm.paths.child(node, token_id)
        route.append((end, node))
    return route


class _Scorer:
    """Reads the tree of a text's stems in pieces and adds up what they give at each byte."""

    def __init__(self, byte_lm: ByteLM, lm: RunnerLM, growth: Growth) -> None:
        self.lexicon = byte_lm.settings.lexicon
        self.is_masked = byte_lm.measure is Measure.CANONICAL
        self.lm, self.growth = lm, growth
        size = len(growth.data) + 1
        self.weights = np.full(len(growth.nodes), -np.inf)
        self.weights[0] = 0.0
        self.mass = np.full(size, -np.inf)  # log P of each beginning
        self.dropped = np.full(size, -np.inf)
        self.end = -math.inf
        self.children: list[list[int]] = [[] for _ in growth.nodes]
        for stem, parent in enumerate(growth.parents):
            if parent >= 0:
                self.children[parent].append(stem)
        self.refused: list[list[tuple[int, int]]] = [[] for _ in growth.nodes]
        if not self.is_masked:
            for stem, token_id, after in growth.refused:
                self.refused[stem].append((token_id, after))
        self.start_nodes = lm.num_nodes
        self.num_nodes = 0

    def run(self) -> None:
        """Read everything."""
        growth, paths = self.growth, self.lm.paths
        total = len(growth.nodes)
        per_forward = max(8, min(_MOST_NODES, _LOGIT_BYTES // (4 * self.lm.vocab_size)))
        per_forward = min(per_forward, max(1, self.lm.room // 4))
        start = 0
        while start < total:
            stop = min(total, start + per_forward)
            if max(paths.depths[node] for node in growth.nodes[start:stop]) > self.lm.room:
                self._forget(start, stop)
            rest = growth.nodes[stop : stop + 2 * per_forward]
            keep = paths.common(rest or growth.nodes[stop - 1 : stop])
            logits = self.lm.forward(growth.nodes[start:stop], keep)
            self.num_nodes += stop - start
            self._take(start, stop, logits)
            start = stop

    def _forget(self, start: int, stop: int) -> None:
        """Give the stems from `start` on a shorter history: half of what fits."""
        growth, paths = self.growth, self.lm.paths
        shared = growth.find(paths.common(growth.nodes[start:stop]))
        kept = paths.ids(growth.nodes[shared])[-(self.lm.room // 2) :]
        moved = {shared: paths.extend(0, kept)}
        for stem in range(shared + 1, len(growth.nodes)):
            parent = growth.parents[stem]
            if parent in moved:
                token_id = paths.tokens[growth.nodes[stem]]
                moved[stem] = paths.child(moved[parent], token_id)
        for stem, node in moved.items():
            growth.nodes[stem] = node

    def _take(self, start: int, stop: int, logits: Tensor) -> None:
        """Turn logits into weights and masses, in blocks that stay in the cache."""
        block = max(1, _BLOCK // logits.shape[1])
        for first in range(start, stop, block):
            last = min(stop, first + block)
            self._take_block(first, last, logits[first - start : last - start])

    def _take_block(self, first: int, last: int, logits: Tensor) -> None:
        growth, lexicon = self.growth, self.lexicon
        p = self._probabilities(first, last, logits).numpy()
        rows, lows, highs, places, owners = [], [], [], [], []
        for stem in range(first, last):
            end = growth.ends[stem]
            for depth, (_, longer, high) in enumerate(self._rows_at(end), 1):
                if longer < high:
                    rows.append(stem - first)
                    lows.append(longer)
                    highs.append(high)
                    places.append(end + depth)
                    owners.append(stem)
        with np.errstate(divide="ignore"):
            self._spread(first, last, p)
            if rows:
                sums = range_sums(p, lexicon.ids, *(np.array(a) for a in (rows, lows, highs)))
                logs = np.log(sums) + self.weights[owners]
                np.logaddexp.at(self.mass, places, logs)

    def _rows_at(self, end: int) -> list[list[int]]:
        if end == len(self.growth.data):
            return []
        offsets = self.growth.offsets
        found: list[list[int]] = self.growth.ranges[offsets[end] : offsets[end + 1]].tolist()
        return found

    def _probabilities(self, first: int, last: int, logits: Tensor) -> Tensor:
        """Return the probabilities of what may follow, shape (stems, vocab_size)."""
        growth, size = self.growth, logits.shape[1]
        text_bits = [b for b in growth.bits[first:last] if b is not None]
        mask = np.unpackbits(np.stack(text_bits), axis=1, count=size)
        ends = self.lexicon.eos_ids
        if self.is_masked:
            mask[:, ends] = np.array(growth.may_end[first:last])[:, None]
        else:
            mask[:] = 0
            mask[:, self.lexicon.ids] = 1
            mask[:, ends] = 1
        allowed = torch.from_numpy(mask).view(torch.bool)
        p = logits.cpu().masked_fill_(allowed.logical_not(), -math.inf).softmax(dim=1)
        is_dead = ~mask.any(axis=1)
        if is_dead.any():
            p[torch.from_numpy(is_dead)] = 0.0
        return p

    def _spread(self, first: int, last: int, p: FloatArray) -> None:
        """Hand weights to longer stems, and to the end of the text."""
        growth, tokens = self.growth, self.lm.paths.tokens
        ends = self.lexicon.eos_ids
        for stem in range(first, last):
            row, weight = p[stem - first], float(self.weights[stem])
            end = growth.ends[stem]
            self.mass[end] = np.logaddexp(self.mass[end], self.weights[stem])
            for child in self.children[stem]:
                self.weights[child] = weight + _log(row[tokens[growth.nodes[child]]])
            for token_id, after in self.refused[stem]:
                lost = weight + _log(row[token_id])
                self.dropped[after] = np.logaddexp(self.dropped[after], lost)
            if end == len(growth.data) and len(ends):
                self.end = float(np.logaddexp(self.end, weight + _log(row[ends].sum())))

    def result(self, num_bytes: int) -> ByteScore:
        """Return the scores of the last bytes."""
        size = len(self.mass)
        with np.errstate(invalid="ignore"):
            reached = np.logaddexp(self.mass, self.dropped)  # before the refused ones are dropped
            logprobs = reached[1:] - self.mass[:-1]
            logprobs[np.isnan(logprobs)] = -np.inf
            leak = self.mass - reached
        begin = size - 1 - num_bytes
        end = self.end - self.mass[-1] if self.mass[-1] > -np.inf else -math.inf
        lost = float(np.nansum(leak[begin + 1 :])) if not self.is_masked else 0.0
        return ByteScore(logprobs[begin:], end, leak=lost, num_nodes=self.num_nodes)


def _log(x: float) -> float:
    return math.log(x) if x > 0.0 else -math.inf
