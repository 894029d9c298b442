"""Superposed Decoding: k drafts from one pass of the model, kept apart by n-grams.

Source: Shen et al. 2024, https://arxiv.org/abs/2405.18400, Algorithm 1: the model reads the mean
of the drafts' last embeddings, weighted by their probabilities; of the k x k continuations the k
likeliest stay, each judged by model and n-grams together (section 3.3).
Differs from the source: n-grams are counted in the prompt and in text that the caller gives, not
in a corpus of the model, and mixed with a tenth of the model's law; contexts that were never seen
leave that law as it is.
Cost: one forward per token for all drafts, a few dictionary steps per draft and token.
"""

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from jeton.decoding.prompt import prompt_ids, stop_token_ids
from jeton.errors import ConfigError, UnsupportedModelError
from jeton.lm.load import LanguageModel


@dataclass(frozen=True, slots=True)
class SuperposedDraft:
    """One of the k texts.

    Attributes:
        token_ids: New ids; a stop token that ended it is the last one.
        data: Their bytes, the stop token's excepted.
        logprob: Of the draft (nats) under the superposed model and the n-grams; no exact law.
    """

    token_ids: tuple[int, ...]
    data: bytes
    logprob: float

    @property
    def text(self) -> str:
        """The bytes as text."""
        return self.data.decode("utf-8", errors="replace")


class NGrams:
    """Counts of what followed each context of up to n - 1 tokens."""

    def __init__(self, texts: Iterable[Sequence[int]], max_ngram: int) -> None:
        """Count all n-grams of 2 to `max_ngram` tokens."""
        self.max_ngram = max_ngram
        self._after: defaultdict[tuple[int, ...], Counter[int]] = defaultdict(Counter)
        for text in texts:
            for size in range(1, max_ngram):
                for start in range(len(text) - size):
                    self._after[tuple(text[start : start + size])][text[start + size]] += 1

    def law(self, context: Sequence[int]) -> dict[int, float]:
        """Return the mean law over the orders whose context was seen; {} where none was.

        Example:
            >>> NGrams([[1, 2, 1, 3]], 3).law([1])
            {2: 0.5, 3: 0.5}
        """
        found: defaultdict[int, float] = defaultdict(float)
        orders = 0
        for size in range(1, min(self.max_ngram, len(context) + 1)):
            counts = self._after.get(tuple(context[len(context) - size :]))
            if counts:
                orders += 1
                total = sum(counts.values())
                for token_id, count in counts.items():
                    found[token_id] += count / total
        return {token_id: weight / orders for token_id, weight in found.items()}


def superposed(
    lm: LanguageModel,
    prompt: str | bytes | Sequence[int],
    *,
    num_drafts: int = 3,
    max_new_tokens: int = 32,
    alpha: float = 0.5,
    max_ngram: int = 6,
    texts: Sequence[Sequence[int]] = (),
    stop_ids: Sequence[int] | None = None,
) -> list[SuperposedDraft]:
    """Return k drafts of a continuation, likeliest first.

    Args:
        lm: The model; it must take embeddings in place of ids.
        prompt: Text, bytes or ids.
        num_drafts: Drafts that are kept.
        max_new_tokens: Upper bound on their tokens.
        alpha: Weight of the n-grams, in [0, 1]; 0 leaves them out.
        max_ngram: Longest n-gram.
        texts: Token ids of text in which n-grams are counted, besides the prompt.
        stop_ids: None takes the model's end-of-text ids; [] never stops.
    Raises:
        ConfigError: a number out of range, or a prompt that leaves no room.
        UnsupportedModelError: the model takes no embeddings.

    Example:
        >>> from jeton.testing.decoding import tiny_language_model
        >>> drafts = superposed(tiny_language_model("llama"), [5, 6], max_new_tokens=4)
        >>> len(drafts), drafts[0].logprob >= drafts[1].logprob
        (3, True)
    """
    if num_drafts < 1 or max_new_tokens < 1 or max_ngram < 2 or not 0 <= alpha <= 1:
        raise ConfigError("num_drafts and max_new_tokens >= 1, max_ngram >= 2, alpha in [0, 1]")
    ids = prompt_ids(lm, prompt)
    room = (lm.max_length or len(ids) + max_new_tokens) - len(ids)
    if room < 1:
        raise ConfigError(f"the prompt has {len(ids)} tokens, more than fit", hint="shorten it")
    ngrams = NGrams([ids, *texts], max_ngram)
    stops = stop_token_ids(lm) if stop_ids is None else frozenset(stop_ids)
    with torch.inference_mode():
        model = _Model(lm)
        law = model.read(torch.tensor([ids], device=lm.device))
        drafts: list[tuple[tuple[int, ...], float]] = [((), 0.0)]
        done: list[tuple[tuple[int, ...], float]] = []
        for left in range(min(max_new_tokens, room) - 1, -1, -1):
            seen = [ngrams.law([*ids, *path][1 - max_ngram :]) for path, _ in drafts]
            chosen = combine([logprob for _, logprob in drafts], law, seen, num_drafts, alpha)
            grown = [((*drafts[i][0], token_id), logprob) for i, token_id, logprob in chosen]
            done += [draft for draft in grown if draft[0][-1] in stops]
            drafts = [draft for draft in grown if draft[0][-1] not in stops]
            if not drafts or left == 0:
                break
            law = model.read_mixed([path[-1] for path, _ in drafts], [p for _, p in drafts])
    ranked = sorted([*done, *drafts], key=lambda draft: (-draft[1], draft[0]))[:num_drafts]
    return [_finish(lm, path, logprob, stops) for path, logprob in ranked]


def combine(
    logprobs: Sequence[float],
    law: Tensor,
    ngrams: Sequence[dict[int, float]],
    num_drafts: int,
    alpha: float,
) -> list[tuple[int, int, float]]:
    """Return the k likeliest continuations of all drafts: (draft, token id, logprob).

    Args:
        logprobs: Of the drafts so far.
        law: Of the next token under the superposed model, shape (vocab,).
        ngrams: What n-grams say after each draft; {} leaves the model's law.
        num_drafts: How many to keep; of the model so many tokens are looked at.
        alpha: Weight of the n-grams: law^(1 - alpha) (0.9 ngrams + 0.1 law)^alpha, normalized.
    """
    top = law.topk(min(num_drafts, len(law)))
    tokens, shares = top.indices.tolist(), top.values.tolist()
    found: list[tuple[int, int, float]] = []
    for draft, said in enumerate(ngrams):
        weights = list(shares)
        if said and alpha:
            # A tenth of the model's own law, so that what n-grams never saw stays possible.
            weights = [
                p ** (1 - alpha) * (0.9 * said.get(token, 0.0) + 0.1 * p) ** alpha
                for token, p in zip(tokens, shares, strict=True)
            ]
            scale = sum(shares) / sum(weights)
            weights = [weight * scale for weight in weights]
        found += [
            (draft, token, logprobs[draft] + math.log(max(weight, 1e-300)))
            for token, weight in zip(tokens, weights, strict=True)
        ]
    found.sort(key=lambda row: (-row[2], row[0], row[1]))
    return found[:num_drafts]


class _Model:
    """Reads ids once, then mixtures of embeddings."""

    def __init__(self, lm: LanguageModel) -> None:
        self._lm = lm
        self._cache: Any = None

    def read(self, ids: Tensor) -> Tensor:
        """Return the law after ids, shape (vocab,), float64."""
        return self._forward(input_ids=ids)

    def read_mixed(self, token_ids: list[int], logprobs: list[float]) -> Tensor:
        """Return the law after the mean of some embeddings, weighted by probability."""
        device = self._lm.device
        weights = torch.tensor(logprobs, dtype=torch.float64, device=device).softmax(-1)
        rows = self._lm.model.get_input_embeddings()(torch.tensor(token_ids, device=device))
        mixed = (weights[:, None] * rows.double()).sum(0).to(rows.dtype)
        return self._forward(inputs_embeds=mixed[None, None])

    def _forward(self, **inputs: Any) -> Tensor:
        try:
            output = self._lm.model(**inputs, past_key_values=self._cache, use_cache=True)
        except (TypeError, ValueError) as error:
            raise UnsupportedModelError(
                f"{self._lm.name} takes no embeddings in place of ids: {error}"
            ) from error
        self._cache = output.past_key_values
        logits: Tensor = output.logits[0, -1, : self._lm.vocabulary.vocab_size]
        return logits.double().softmax(-1)


def _finish(
    lm: LanguageModel, path: tuple[int, ...], logprob: float, stops: frozenset[int]
) -> SuperposedDraft:
    spoken = path[:-1] if path and path[-1] in stops else path
    return SuperposedDraft(path, lm.vocabulary.bytes_of(spoken), logprob)
