"""Prompt lookup: draft what followed the last n-gram when it was seen before.

Source: Saxena 2023, https://github.com/apoorvumang/prompt-lookup-decoding
Differs from the source: an index of n-grams replaces the scan, so that a step costs the same at
any context length; longest n-gram first, ties take the latest match.
Cost: a few dictionary look-ups per token, no model call.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar

from jeton.decoding.contract import DraftContext, Step
from jeton.errors import ConfigError
from jeton.lm.tree import TokenTree


@dataclass(slots=True)
class PromptLookup:
    """Options of the drafter.

    Attributes:
        max_ngram: Longest n-gram that is matched first.
        min_ngram: Shortest n-gram that is trusted.
    """

    max_ngram: int = 4
    min_ngram: int = 2

    needs: ClassVar[frozenset[str]] = frozenset()
    makes_trees: ClassVar[bool] = False
    fixes_draws: ClassVar[bool] = False

    _token_ids: list[int] = field(default_factory=list, init=False, repr=False)
    _after: list[dict[tuple[int, ...], int]] = field(default_factory=list, init=False, repr=False)

    def __post_init__(self) -> None:
        if not 1 <= self.min_ngram <= self.max_ngram:
            raise ConfigError(
                "prompt_lookup needs 1 <= min_ngram <= max_ngram, "
                f"got {self.min_ngram} and {self.max_ngram}"
            )

    def begin(self, context: DraftContext) -> None:
        """Index the prompt."""
        self._token_ids = []
        self._after = [{} for _ in range(self.max_ngram + 1)]
        self._extend(context.token_ids)

    def propose(self, num_draft_tokens: int) -> TokenTree:
        """Return the chain that followed the latest match of the longest known n-gram.

        Example:
            >>> from jeton.decoding.contract import DraftContext, Sampling
            >>> drafter = PromptLookup()
            >>> drafter.begin(DraftContext([1, 2, 3, 1, 2], 10, Sampling()))
            >>> list(drafter.propose(2).token_ids)
            [3, 1]
        """
        ids = self._token_ids
        for n in range(min(self.max_ngram, len(ids)), self.min_ngram - 1, -1):
            start = self._after[n].get(tuple(ids[-n:]))
            if start is not None:
                found = ids[start : start + num_draft_tokens]
                # A guess of the order of what is measured: longer matches hold more often, and
                # every drafted token lengthens the match of the next one.
                logq = [math.log(1.0 - 0.9 / (n + depth)) for depth in range(len(found))]
                return TokenTree.chain(found, logq=logq)
        return TokenTree.chain([])

    def observe(self, step: Step) -> None:
        """Index what was decided."""
        self._extend(step.token_ids)

    def _extend(self, token_ids: Sequence[int]) -> None:
        ids = self._token_ids
        for token_id in token_ids:
            # The n-grams that end here are followed by the token that comes now.
            for n in range(self.min_ngram, min(self.max_ngram, len(ids)) + 1):
                self._after[n][tuple(ids[-n:])] = len(ids)
            ids.append(token_id)
