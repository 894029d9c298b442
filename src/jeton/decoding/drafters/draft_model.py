"""Draft model: a smaller model of the same vocabulary writes a chain, token by token.

Source: Leviathan et al. 2023, https://arxiv.org/abs/2211.17192; the stop at low confidence is that
of assisted generation in transformers (Gante 2023), whose threshold is 0.4.
Differs from the source: under greedy and seed-exact verification the chain is the draft model's
own best guess, with the noise of the positions; it is drawn at random only where a verifier asks.
Cost: one forward of the draft model per drafted token.
"""

from dataclasses import dataclass, field
from typing import ClassVar

from jeton.decoding.chance import Chance
from jeton.decoding.contract import DraftContext, Step
from jeton.decoding.draft_state import DraftState
from jeton.errors import ConfigError
from jeton.lm.tree import TokenTree


@dataclass(slots=True)
class DraftModel:
    """Options of the drafter.

    Attributes:
        min_confidence: Stop before a token whose most likely value has a lower probability.
        chance: The source of random draws; None makes one from the seed.
    """

    min_confidence: float = 0.4
    chance: Chance | None = None

    needs: ClassVar[frozenset[str]] = frozenset({"draft_model"})
    makes_trees: ClassVar[bool] = False
    fixes_draws: ClassVar[bool] = True

    _state: DraftState | None = field(default=None, init=False, repr=False)

    def __post_init__(self) -> None:
        if not 0 <= self.min_confidence <= 1:
            raise ConfigError(f"min_confidence must be in [0, 1], got {self.min_confidence}")

    def begin(self, context: DraftContext) -> None:
        """Start with an empty cache."""
        self._state = DraftState(context, self.chance)

    def propose(self, num_draft_tokens: int) -> TokenTree:
        """Return the chain that the draft model writes."""
        state = self._state
        assert state is not None, "begin comes first"
        return state.chain(num_draft_tokens, lambda law: float(law.max()) >= self.min_confidence)

    def observe(self, step: Step) -> None:
        """Follow the target."""
        assert self._state is not None
        self._state.observe(step)
