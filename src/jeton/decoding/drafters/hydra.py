"""Hydra: heads on the target's last hidden state that see what was drafted before them.

Source: Ankner et al. 2024, https://arxiv.org/abs/2402.05109, section 3: head i reads the hidden
state and the embeddings of the tokens up to its place, so that each path gets its own guesses.
Differs from the source: the heads share the target's output matrix, cut to frequent tokens, and
are two layers without a residual path; the tree is grown for each budget by the
heads' own confidence instead of a fixed template.
Cost: per level two small layers and one product with the cut output matrix, for `beam` paths.
"""

from dataclasses import dataclass, field
from typing import ClassVar

from jeton.decoding.contract import DraftContext, Step
from jeton.decoding.heads import HeadState, grow_by_levels
from jeton.decoding.weights import Weights, weights_for
from jeton.errors import ConfigError
from jeton.lm.tree import TokenTree


@dataclass(slots=True)
class Hydra:
    """Options of the drafter.

    Attributes:
        weights: Folder of `jeton draft train --method hydra`; empty: the model's own.
        branching: Most guesses per path and level.
        beam: Most paths per level that are continued.
        trained: The weights themselves, instead of a folder.
    """

    weights: str = ""
    branching: int = 6
    beam: int = 4
    trained: Weights | None = None

    needs: ClassVar[frozenset[str]] = frozenset({"hidden", "weights"})
    makes_trees: ClassVar[bool] = True
    fixes_draws: ClassVar[bool] = False

    _state: HeadState | None = field(default=None, init=False, repr=False)

    def __post_init__(self) -> None:
        if self.branching < 1 or self.beam < 1:
            raise ConfigError(
                "hydra needs branching and beam of at least 1, "
                f"got {self.branching} and {self.beam}"
            )

    def begin(self, context: DraftContext) -> None:
        """Read the weights when that was not done before."""
        model = context.target.model
        if self._state is None or self._state.model is not model:
            found = self.trained or weights_for(model, "hydra", self.weights)
            self._state = HeadState(found, model, sees_tokens=True)
        self._state.begin(context)

    def propose(self, num_draft_tokens: int) -> TokenTree:
        """Return the most likely paths."""
        state = self._state
        assert state is not None, "begin comes first"
        if not state.is_ready:
            return TokenTree.chain([])
        return grow_by_levels(
            state.guesses,
            num_draft_tokens,
            min(state.heads.num_heads, num_draft_tokens),
            beam=self.beam,
            branching=self.branching,
        )

    def observe(self, step: Step) -> None:
        """Follow the target."""
        assert self._state is not None
        self._state.observe(step)
