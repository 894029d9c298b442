"""Medusa: heads on the target's last hidden state, each guessing one place further on.

Source: Cai et al. 2024, https://arxiv.org/abs/2401.10774, section 2.1 (heads as residual blocks
on the last hidden state) and 2.1.2 (the tree of their best guesses).
Differs from the source: the heads share the target's output matrix, cut to frequent tokens, and
are two layers without a residual path; the tree is grown for each budget by the
heads' own confidence instead of a fixed template.
Cost: per step and head two small layers and one product with the cut output matrix.
"""

from dataclasses import dataclass, field
from typing import ClassVar

from jeton.decoding.contract import DraftContext, Step
from jeton.decoding.heads import Guesses, HeadState, grow_by_levels
from jeton.decoding.weights import Weights, weights_for
from jeton.errors import ConfigError
from jeton.lm.tree import TokenTree


@dataclass(slots=True)
class Medusa:
    """Options of the drafter.

    Attributes:
        weights: Folder of `jeton draft train --method medusa`; empty: the model's own.
        branching: Most guesses per head.
        trained: The weights themselves, instead of a folder.
    """

    weights: str = ""
    branching: int = 8
    trained: Weights | None = None

    needs: ClassVar[frozenset[str]] = frozenset({"hidden", "weights"})
    makes_trees: ClassVar[bool] = True
    fixes_draws: ClassVar[bool] = False

    _state: HeadState | None = field(default=None, init=False, repr=False)

    def __post_init__(self) -> None:
        if self.branching < 1:
            raise ConfigError(f"branching must be at least 1, got {self.branching}")

    def begin(self, context: DraftContext) -> None:
        """Read the weights when that was not done before."""
        model = context.target.model
        if self._state is None or self._state.model is not model:
            found = self.trained or weights_for(model, "medusa", self.weights)
            self._state = HeadState(found, model, sees_tokens=False)
        self._state.begin(context)

    def propose(self, num_draft_tokens: int) -> TokenTree:
        """Return the most likely paths; the guesses of a head follow every guess before."""
        state = self._state
        assert state is not None, "begin comes first"
        if not state.is_ready:
            return TokenTree.chain([])

        def guesses(index: int, paths: list[list[int]], count: int) -> Guesses:
            return state.guesses(index, [[]], count) * len(paths)

        levels = min(state.heads.num_heads, num_draft_tokens)
        return grow_by_levels(
            guesses, num_draft_tokens, levels, beam=num_draft_tokens, branching=self.branching
        )

    def observe(self, step: Step) -> None:
        """Follow the target."""
        assert self._state is not None
        self._state.observe(step)
