"""`ByteLM`: any token model as a model of bytes.

Source: Phan et al. 2024, "Exact Byte-Level Probabilities from Tokenized Language Models",
https://arxiv.org/abs/2410.09303.
Differs from the source: stems are found by the tokenizer's own rules (`rules.py`), end-of-text is
the 257th symbol, and what is left unread is certified.
Cost: about one token forward for each byte; a prompt costs its ordinary prefill.
"""

import math
import warnings
from collections.abc import Iterable, Sequence
from functools import cached_property

import numpy as np
from transformers import PreTrainedModel

from jeton.bytelm.contract import END, NUM_SYMBOLS, FloatArray, FreeRule, Measure, Rule, TokenLM
from jeton.bytelm.growth import Growth, grow
from jeton.bytelm.lexicon import Lexicon
from jeton.bytelm.probing import ProbingRule
from jeton.bytelm.prompt import Prompt, read_parts
from jeton.bytelm.rules import canonical_rule
from jeton.bytelm.runner_lm import RunnerLM
from jeton.bytelm.stems import Settings, Stems
from jeton.core.vocabulary import Vocabulary
from jeton.errors import ConfigError, EncodingError
from jeton.lm.load import LanguageModel

_SHORT = 64  # bytes of a prompt of which `all` reads every tokenization
_BACK = 4  # tokens from the end of a longer one from which it does


class ByteLM:
    """Exact probabilities of bytes from a model of tokens.

    Attributes:
        vocabulary: Of the model.
        measure: Which tokenizations count.
        token_lm: Gives the logprobs.
        settings: What its stems share.

    Example:
        >>> from jeton.testing.bytelm import TableLM, toy_vocabulary
        >>> vocabulary = toy_vocabulary(["a", "b", "ab"], [("a", "b")])
        >>> table = TableLM(lambda path: [0.4, 0.2, 0.3, 0.1])
        >>> state = ByteLM(table, vocabulary, measure="all").state(b"a")
        >>> round(float(np.exp(state.next_logprobs()[ord("b")])), 6)
        0.542857
    """

    def __init__(
        self,
        model: LanguageModel | PreTrainedModel | TokenLM,
        vocabulary: Vocabulary | None = None,
        measure: str = "canonical",
        *,
        epsilon: float = 1e-3,
        max_stems: int = 16,
        temperature: float = 1.0,
        start_ids: Sequence[int] | None = None,
        end_ids: Iterable[int] | None = None,
    ) -> None:
        """Take a model.

        Args:
            model: A loaded language model, a model of transformers, or any `TokenLM`.
            vocabulary: Needed where the model does not bring its own.
            measure: "canonical", "all" or "fast", see `Measure`.
            epsilon: For `all`: share of P(text) that may be left unread; 0 reads everything.
            max_stems: Upper bound on stems that are kept; what is given up widens the bounds.
            temperature: Of the token model.
            start_ids: What stands before every text; None for BOS, or EOS in its stead.
            end_ids: Ids that end a text; None for the vocabulary's EOS.
        Raises:
            ConfigError: an option is out of range, or there is no vocabulary.
        """
        if vocabulary is None and isinstance(model, LanguageModel):
            vocabulary = model.vocabulary
        if vocabulary is None:
            raise ConfigError("a ByteLM needs a vocabulary", hint="pass vocabulary=")
        if measure not in list(Measure):
            raise ConfigError(f"measure must be one of {', '.join(Measure)}; got {measure!r}")
        if not 0.0 <= epsilon < 1.0 or max_stems < 1:
            raise ConfigError(
                f"epsilon must be in [0, 1) and max_stems 1 or more; got {epsilon} and {max_stems}"
            )
        self.vocabulary = vocabulary
        self.measure = Measure(measure)
        if isinstance(model, PreTrainedModel):
            model = LanguageModel(model, None, vocabulary, type(model).__name__)
        self.token_lm: TokenLM = (
            RunnerLM(model, temperature) if isinstance(model, LanguageModel) else model
        )
        rule = FreeRule() if self.measure is Measure.ALL else self.rule
        self.settings = Settings(
            self.token_lm,
            Lexicon(vocabulary, end_ids),
            rule,
            self.measure,
            epsilon if self.measure is Measure.ALL else 0.0,
            max_stems,
        )
        self.start_ids = _start_ids(vocabulary) if start_ids is None else list(start_ids)

    @cached_property
    def rule(self) -> Rule:
        """Which sequences of tokens the tokenizer writes."""
        return canonical_rule(self.vocabulary)

    def state(self, prompt: Prompt = b"") -> "ByteState":
        """Return the state behind a prompt, whether it ends inside a token or not.

        Args:
            prompt: Bytes or text, or parts with `Special` tokens between them.
        Raises:
            ConfigError: a special token that the vocabulary has not.
            EncodingError: no canonical text begins with these bytes; the message says why.
        """
        context, text = self.read_context(prompt)
        if not text:
            return ByteState(Stems.begin(self.settings, context))
        if self.measure is Measure.ALL and len(text) <= _SHORT:
            return ByteState(_advance(Stems.begin(self.settings, context), text)).rebased()
        return ByteState(self._resume(self.grow(context, text))).rebased()

    def read_context(self, prompt: Prompt) -> tuple[int, bytes]:
        """Return the sequence that a prompt's closed parts make, and the open text."""
        ids, text = read_parts(self.vocabulary, prompt)
        return self.token_lm.paths.extend(0, [*self.start_ids, *ids]), text

    def grow(self, context: int, text: bytes) -> Growth:
        """Return all canonical stems of a text; where the rule misses them, the tokenizer is asked.

        Raises:
            EncodingError: no canonical text begins with these bytes.
        """
        data = b" " * self.settings.lexicon.strips_space + text
        growth = self._grow(self.rule, context, data)
        if self._living(growth):
            return growth
        self.vocabulary.encode(text)  # raises with the reason where there is none
        warnings.warn(
            f"the rule of {self.vocabulary.name} misses the encoding of a text; the tokenizer is "
            "asked about every token instead: please report the text",
            stacklevel=3,
        )
        growth = self._grow(ProbingRule(self.vocabulary), context, data)
        if not self._living(growth):
            raise EncodingError(f"{self.vocabulary.name} has no canonical text of these bytes")
        return growth

    def _grow(self, rule: Rule, context: int, data: bytes) -> Growth:
        roots = [(context, rule.start(), 0)]
        return grow(self.settings.lexicon, rule, self.token_lm.paths, roots, data)

    def _living(self, growth: Growth) -> list[int]:
        is_masked = self.measure is Measure.CANONICAL
        return growth.living(self.settings.lexicon, is_masked=is_masked)

    def _resume(self, growth: Growth) -> Stems:
        """Return the stems behind a text, weighed from their last common beginning on.

        With `all` they are weighed from some tokens before it: what stands further back is taken
        as the tokenizer writes it, as for any prompt.
        """
        settings, paths = self.settings, self.token_lm.paths
        living = self._living(growth)
        root = growth.find(paths.common([growth.nodes[stem] for stem in living]))
        if self.measure is Measure.ALL:
            for _ in range(_BACK):
                root = max(0, growth.parents[root])
        wanted = set()
        for stem in living:
            while stem != root:
                wanted.add(growth.nodes[stem])
                stem = growth.parents[stem]
        node = growth.nodes[root]
        if isinstance(self.token_lm, RunnerLM):
            self.token_lm.prefetch(sorted({node, *wanted}), node)
        state = None if self.measure is Measure.ALL else growth.states[root]
        stems = Stems.from_node(settings, node, state)
        return _advance(stems, growth.data[growth.ends[root] :])

    def generate(self, prompt: Prompt = b"", *, max_bytes: int = 256, seed: int = 0) -> bytes:
        """Continue a prompt byte by byte until the end of text.

        Args:
            prompt: As for `state`.
            max_bytes: Upper bound on the new bytes.
            seed: Of the sampling.
        """
        state, found = self.state(prompt), bytearray()
        rng = np.random.default_rng(seed)
        while len(found) < max_bytes:
            symbol = state.sample(rng)
            if symbol == END:
                break
            found.append(symbol)
            state = state.advance(symbol)
        return bytes(found)


class ByteState:
    """A text so far; immutable, so that `fork` is free.

    Attributes:
        stems: Its stems.
    """

    def __init__(self, stems: Stems, base: float = 0.0) -> None:
        self.stems = stems
        self._base = base

    def rebased(self) -> "ByteState":
        """Return the same state; its `logprob` is 0 and counts from here."""
        return ByteState(self.stems, self.stems.logprob)

    @property
    def logprob(self) -> float:
        """Log P(bytes since the prompt, given the prompt), as far as read."""
        return self.stems.logprob - self._base

    @property
    def unread(self) -> float:
        """Certificate: at most this share of the text's probability was left out."""
        gap = self.stems.log_unread - float(np.logaddexp(self.stems.logprob, self.stems.log_unread))
        return math.exp(gap) if gap > -math.inf else 0.0

    @property
    def leak(self) -> float:
        """Log of the share of mass that the measure `fast` has dropped since the prompt."""
        return self.stems.leak

    @property
    def num_stems(self) -> int:
        """Stems in all."""
        return self.stems.num_stems

    def next_logprobs(self) -> FloatArray:
        """Return the log probabilities of 256 bytes and end-of-text, shape (257,), nats."""
        logs = self.stems.symbol_logs()
        total = float(np.logaddexp.reduce(logs))
        return logs - total if total > -math.inf else np.full(NUM_SYMBOLS, -np.inf)

    def next_bounds(self) -> tuple[FloatArray, FloatArray]:
        """Return certified lower and upper bounds of `next_logprobs`, each of shape (257,)."""
        logs, unread = self.stems.symbol_logs(), self.stems.log_unread
        total = float(np.logaddexp(np.logaddexp.reduce(logs), unread))
        return logs - total, np.minimum(np.logaddexp(logs, unread) - total, 0.0)

    def advance(self, data: int | bytes) -> "ByteState":
        """Return the state behind one more byte, or several."""
        given = bytes([data]) if isinstance(data, int) else data
        return ByteState(_advance(self.stems, given), self._base)

    def follow(self, data: bytes) -> list["ByteState"]:
        """Return the states behind each of some known bytes, read in one forward."""
        self._prefetch(data)
        states, state = [], self
        for byte in data:
            state = state.advance(byte)
            states.append(state)
        return states

    def _prefetch(self, data: bytes) -> None:
        """Read all canonical stems of the bytes to come."""
        settings = self.stems.settings
        lm, live = settings.lm, self.stems.live
        if not isinstance(lm, RunnerLM) or not live or settings.measure is Measure.ALL:
            return
        longest = max(stem.depth for stem in live)
        text = self.stems.text[len(self.stems.text) - longest :] + data
        roots = [(stem.path, stem.state, longest - stem.depth) for stem in live]
        growth = grow(settings.lexicon, settings.rule, lm.paths, roots, text, beyond=longest)
        new = [n for n, parent in zip(growth.nodes, growth.parents, strict=True) if parent >= 0]
        if new:
            lm.prefetch(new, lm.paths.common([stem.path for stem in live]))

    def fork(self) -> "ByteState":
        """Return a state that advances on its own: this one, which never changes."""
        return self

    def covers(self) -> list[tuple[list[int], float]]:
        """Return the token sequences that cover the text, with their log shares, best first."""
        paths, total = self.stems.settings.lm.paths, self.stems.logprob
        return [(paths.ids(node), logw - total) for node, logw in self.stems.covers()]

    def sample(self, rng: np.random.Generator) -> int:
        """Draw the next symbol: a byte, or `END`."""
        p = np.exp(self.next_logprobs())
        total = p.sum()
        if not total > 0.0:
            return END
        return int(rng.choice(NUM_SYMBOLS, p=p / total))


def _advance(stems: Stems, data: bytes) -> Stems:
    for byte in data:
        stems = stems.advance(byte)
    return stems


def _start_ids(vocabulary: Vocabulary) -> list[int]:
    """Return BOS, or EOS in its stead, as `jeton.lm.bits` does."""
    for token_id in (vocabulary.bos_token_id, vocabulary.eos_token_id):
        if token_id is not None:
            return [token_id]
    return []
