"""What drafters with heads on the target's last hidden state share: all but what a head sees."""

from dataclasses import dataclass, field
from typing import ClassVar

from jeton.decoding.contract import DraftContext, Step
from jeton.decoding.heads import HeadState, grow_by_levels
from jeton.decoding.weights import Weights, weights_for
from jeton.errors import ConfigError
from jeton.lm.tree import TokenTree


@dataclass(slots=True)
class HeadDrafter:
    """Options of the drafter.

    Attributes:
        weights: Folder of `jeton draft train` with the method of that name; empty: the model's own.
        branching: Most guesses per path and level.
        beam: Most paths per level that are continued; 0 for as many as there are draft tokens.
        trained: The weights themselves, instead of a folder.
    """

    weights: str = ""
    branching: int = 8
    beam: int = 0
    trained: Weights | None = None

    kind: ClassVar[str]
    sees_tokens: ClassVar[bool]
    needs: ClassVar[frozenset[str]] = frozenset({"hidden", "weights"})
    makes_trees: ClassVar[bool] = True
    fixes_draws: ClassVar[bool] = False

    _state: HeadState | None = field(default=None, init=False, repr=False)

    def __post_init__(self) -> None:
        if self.branching < 1 or self.beam < 0:
            raise ConfigError(
                f"{self.kind} needs branching of at least 1 and beam of at least 0, "
                f"got {self.branching} and {self.beam}"
            )

    def begin(self, context: DraftContext) -> None:
        """Read the weights when that was not done before."""
        model = context.target.model
        if self._state is None or self._state.model is not model:
            found = self.trained or weights_for(model, self.kind, self.weights)
            self._state = HeadState(found, model, sees_tokens=self.sees_tokens)
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
            beam=self.beam or num_draft_tokens,
            branching=self.branching,
        )

    def observe(self, step: Step) -> None:
        """Follow the target."""
        assert self._state is not None
        self._state.observe(step)
