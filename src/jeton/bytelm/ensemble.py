"""Several models of different vocabularies as one model of bytes.

Source: Phan et al. 2024, https://arxiv.org/abs/2410.09303, section 5 (ensembles over bytes); the
Bayesian mixture is the ordinary one of Bayes' rule.
Differs from the source: three mixes, of two or more models.

- `conditionals`: the next byte's probabilities are averaged with fixed weights.
- `bayes`: the weights follow each model's P(text so far): the only mix that is a mixture of whole
  texts.
- `product`: the logs are averaged and renormalised.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

import numpy as np

from jeton.bytelm.byte_lm import ByteLM, ByteState
from jeton.bytelm.contract import END, NUM_SYMBOLS, FloatArray
from jeton.bytelm.prompt import Prompt
from jeton.bytelm.score import score
from jeton.errors import ConfigError


class Mix(StrEnum):
    """How models are put together."""

    CONDITIONALS = "conditionals"
    BAYES = "bayes"
    PRODUCT = "product"


def mix_logprobs(rows: FloatArray, log_weights: FloatArray, mix: Mix) -> FloatArray:
    """Return the mixed log probabilities of the next symbol.

    Args:
        rows: Of each model, shape (models, symbols).
        log_weights: Of each model, shape (models,); they need not add up to one.
        mix: How.
    Returns:
        Shape (symbols,); the probabilities add up to one.

    Example:
        >>> rows = np.log([[0.8, 0.2], [0.4, 0.6]])
        >>> np.exp(mix_logprobs(rows, np.log([0.5, 0.5]), Mix.CONDITIONALS)).round(3)
        array([0.6, 0.4])
    """
    log_shares = log_weights - np.logaddexp.reduce(log_weights)
    if mix is Mix.PRODUCT:
        with np.errstate(invalid="ignore"):
            logs = np.where(np.isneginf(rows).any(axis=0), -np.inf, np.exp(log_shares) @ rows)
        logs = np.where(np.isnan(logs), -np.inf, logs)
        total = float(np.logaddexp.reduce(logs))
        return logs - total if total > -math.inf else logs
    found: FloatArray = np.logaddexp.reduce(rows + log_shares[:, None], axis=0)
    return found


@dataclass(frozen=True)
class EnsembleState:
    """A text so far, under all models.

    Attributes:
        states: Of each model.
        log_weights: Of each, grown by what it said with `bayes`.
        mix: How.
        logprob: Log P(bytes since the prompt).
    """

    states: tuple[ByteState, ...]
    log_weights: FloatArray
    mix: Mix
    logprob: float = 0.0

    def next_logprobs(self) -> FloatArray:
        """Return the log probabilities of 256 bytes and end-of-text, shape (257,), nats."""
        rows = np.stack([state.next_logprobs() for state in self.states])
        return mix_logprobs(rows, self.log_weights, self.mix)

    def advance(self, byte: int) -> "EnsembleState":
        """Return the state behind one more byte."""
        rows = np.stack([state.next_logprobs() for state in self.states])
        mixed = mix_logprobs(rows, self.log_weights, self.mix)
        weights = self.log_weights + rows[:, byte] if self.mix is Mix.BAYES else self.log_weights
        return replace(
            self,
            states=tuple(state.advance(byte) for state in self.states),
            log_weights=weights,
            logprob=self.logprob + float(mixed[byte]),
        )


class Ensemble:
    """Two or more byte models as one.

    Attributes:
        models: Each with its own vocabulary.
        mix: How they are put together.
    """

    def __init__(
        self,
        models: Sequence[ByteLM],
        mix: str = "conditionals",
        weights: Sequence[float] | None = None,
    ) -> None:
        """Take models.

        Args:
            models: One or more.
            mix: One of `Mix`.
            weights: Of each model, above 0; None for equal ones.
        Raises:
            ConfigError: no models, an unknown mix, or weights that do not fit.
        """
        if not models:
            raise ConfigError("an ensemble needs models, got none", hint="give two or more")
        if mix not in list(Mix):
            raise ConfigError(f"mix must be one of {', '.join(Mix)}; got {mix!r}")
        given = [1.0] * len(models) if weights is None else list(weights)
        if len(given) != len(models) or min(given) <= 0.0 or not math.isfinite(sum(given)):
            raise ConfigError(
                f"{len(models)} models need as many weights above 0, got {given}",
                hint="leave them out for equal weights",
            )
        self.models = list(models)
        self.mix = Mix(mix)
        self._log_weights = np.log(np.array(given) / sum(given))

    def state(self, prompt: Prompt = b"") -> EnsembleState:
        """Return the state behind a prompt that every model can read."""
        states = tuple(model.state(prompt) for model in self.models)
        return EnsembleState(states, self._log_weights, self.mix)

    def score(self, data: bytes | str, context: Prompt = b"") -> FloatArray:
        """Return the log probability of each byte and of the end, shape (bytes + 1,), nats.

        Mixtures cost one `score` of each model; the product goes byte by byte.
        """
        data = data.encode("utf-8", "surrogatepass") if isinstance(data, str) else bytes(data)
        if self.mix is Mix.PRODUCT:
            return self._walk(data, context)
        scores = [score(model, data, context) for model in self.models]
        rows = np.stack([np.append(one.logprobs, one.end_logprob) for one in scores])
        weights = np.repeat(self._log_weights[:, None], rows.shape[1], axis=1)
        if self.mix is Mix.BAYES:
            weights[:, 1:] += np.cumsum(rows[:, :-1], axis=1)
        with np.errstate(invalid="ignore"):
            shares = weights - np.logaddexp.reduce(weights, axis=0)
            found: FloatArray = np.logaddexp.reduce(rows + shares, axis=0)
        return np.where(np.isnan(found), -np.inf, found)

    def _walk(self, data: bytes, context: Prompt) -> FloatArray:
        state = self.state(context)
        found = np.empty(len(data) + 1)
        followed = [state_.follow(data) for state_ in state.states]
        for place in range(len(data) + 1):
            states = state.states if place == 0 else [row[place - 1] for row in followed]
            rows = np.stack([one.next_logprobs() for one in states])
            symbol = data[place] if place < len(data) else END
            found[place] = mix_logprobs(rows, self._log_weights, self.mix)[symbol]
        return found

    def generate(self, prompt: Prompt = b"", *, max_bytes: int = 256, seed: int = 0) -> bytes:
        """Continue a prompt byte by byte until the end of text."""
        rng, state, found = np.random.default_rng(seed), self.state(prompt), bytearray()
        while len(found) < max_bytes:
            p = np.exp(state.next_logprobs())
            if not p.sum() > 0.0:
                break
            symbol = int(rng.choice(NUM_SYMBOLS, p=p / p.sum()))
            if symbol == END:
                break
            found.append(symbol)
            state = state.advance(symbol)
        return bytes(found)
