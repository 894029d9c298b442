"""A draft model beside the target: follows the text, gives laws, draws from them."""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from jeton.decoding.chance import DRAFT_STREAM, Chance, SeededChance
from jeton.decoding.contract import COUPLED, DISTINCT, Draft, DraftContext, Law, Step
from jeton.decoding.filters import filter_row
from jeton.decoding.noise import gumbel
from jeton.lm.runner import Runner
from jeton.lm.tree import TokenTree


class DraftState:
    """The draft model's cache and the rules of drawing that the verifier asked for.

    What of the last draft the target kept stays in the cache; the rest is dropped when the next
    draft begins.
    """

    def __init__(
        self, context: DraftContext, chance: Chance | None = None, *, skipped: int = 0
    ) -> None:
        """Start with an empty cache.

        Args:
            context: Its prompt is what the draft model reads.
            chance: The source of random draws; None makes one from the seed.
            skipped: Tokens of the target's prompt that the draft model does not read.
        """
        self.runner = Runner(context.draft_model.model)
        self.token_ids = list(context.token_ids)
        self.is_coupled = context.draws == COUPLED
        self.is_distinct = context.draws == DISTINCT
        self.chance = chance or SeededChance(context.sampling.seed, DRAFT_STREAM)
        self._sampling = context.sampling
        self.vocab_size = context.vocab_size
        self._skipped = skipped

    def observe(self, step: Step) -> None:
        """Add what the target decided."""
        self.token_ids.extend(step.token_ids)

    def room(self, num_draft_tokens: int) -> int:
        """Return how many tokens the draft model's context still holds, at most the asked ones."""
        return max(0, min(num_draft_tokens, self.runner.max_length - len(self.token_ids)))

    def read(self) -> Tensor:
        """Bring the cache to the end of the context; return the logits there."""
        ids, cached = self.token_ids, self.runner.token_ids
        same = 0
        for mine, theirs in zip(cached, ids[:-1], strict=False):
            if mine != theirs:
                break
            same += 1
        self.runner.truncate(same)
        self.chance.at(len(ids) + self._skipped)
        return self.runner.prefill(ids[same:])

    def law(self, logits: Tensor, path: list[int]) -> Tensor:
        """Return the probabilities of the token after the context and a path, (vocab,), float64."""
        row = filter_row(logits[: self.vocab_size], [*self.token_ids, *path], self._sampling)
        return row.double().softmax(-1)

    def draw(self, law: Tensor, depth: int) -> int:
        """Draw one token: the best guess of the target's choice, or a random one.

        Args:
            law: Shape (vocab,), any positive scale; zeros are never drawn.
            depth: Of the token; 0 follows the context.
        """
        if not self.is_coupled:
            return self.chance.draws(law)
        if self._sampling.temperature == 0:
            return int(law.argmax())
        position = self._skipped + len(self.token_ids) + depth
        noise = gumbel(self._sampling.seed, position, law.shape[-1])
        return int((law.log() + noise.to(law.device)).argmax())

    def logits_of(self, tree: TokenTree) -> Tensor:
        """Return the logits after each node of a draft, shape (nodes, num_embeddings)."""
        found = self.runner.verify(tree).logits
        self.runner.commit([])
        return found

    def chain(
        self,
        num_draft_tokens: int,
        is_sure: Callable[[Tensor], bool],
        advance: Callable[[int], Tensor | None] | None = None,
    ) -> Draft:
        """Write a chain, token by token.

        Args:
            num_draft_tokens: Most tokens.
            is_sure: Of the law of the next token: whether to draw it. It is asked before the draw:
                a stop that looked at the drawn token would not be exact.
            advance: Reads a drawn token and returns the logits after it, or None to stop; None
                reads it with the draft model.
        """
        token_ids: list[int] = []
        logq: list[float] = []
        laws: dict[int, Law] = {}
        room = self.room(num_draft_tokens)
        logits = self.read() if room else None
        while logits is not None:
            law = self.law(logits, token_ids)
            if not is_sure(law):
                break
            token = self.draw(law, len(token_ids))
            if not self.is_coupled:
                laws[len(token_ids) - 1] = Law(law, (len(token_ids),))
            token_ids.append(token)
            logq.append(math.log(max(float(law[token]), 1e-300)))
            if len(token_ids) == room:
                break
            logits = advance(token) if advance else self.runner.prefill([token])
        return Draft(token_ids, list(range(-1, len(token_ids) - 1)), logq, None, laws)


def without(law: Tensor, token: int) -> Tensor:
    """Return what is left of a law when a token was drawn and is not put back, normalized."""
    left = torch.clone(law)
    left[token] = 0.0
    total = float(left.sum())
    return left / total if total > 0 else left
