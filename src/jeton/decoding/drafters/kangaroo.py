"""Kangaroo: the target's own first layers and a small adapter draft a chain.

Source: Liu et al. 2024, https://arxiv.org/abs/2404.18911, section 3.1 (adapter: one attention and
two norms, between the early exit and the target's output matrix) and 3.2 (stop drafting when the
most likely token has less than eta = 0.6).
Differs from the source: the first layers keep a cache of their own and read again what the target
has verified, instead of handing their states on to the other layers.
Cost: the first layers and the adapter per drafted token, and once more per verified one.
"""

from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

from jeton.decoding.chance import Chance
from jeton.decoding.contract import DraftContext, Step
from jeton.decoding.draft_state import DraftState
from jeton.decoding.early_exit import shallow_model
from jeton.decoding.weights import Weights, check_fits, fill, weights_for
from jeton.errors import ConfigError
from jeton.lm.tree import TokenTree


@dataclass(slots=True)
class Kangaroo:
    """Options of the drafter.

    Attributes:
        weights: Folder of `jeton draft train --method kangaroo`; empty: the model's own.
        min_confidence: Stop before a token whose most likely value has a lower probability.
        trained: The weights themselves, instead of a folder.
        chance: The source of random draws; None makes one from the seed.
    """

    weights: str = ""
    min_confidence: float = 0.6
    trained: Weights | None = None
    chance: Chance | None = None

    needs: ClassVar[frozenset[str]] = frozenset({"weights"})
    makes_trees: ClassVar[bool] = False
    fixes_draws: ClassVar[bool] = True

    _state: DraftState | None = field(default=None, init=False, repr=False)
    _shallow: "_Shallow | None" = field(default=None, init=False, repr=False)

    def __post_init__(self) -> None:
        if not 0 <= self.min_confidence <= 1:
            raise ConfigError(f"min_confidence must be in [0, 1], got {self.min_confidence}")

    def begin(self, context: DraftContext) -> None:
        """Read the weights when that was not done before, and start with an empty cache."""
        target = context.target.model
        if self._shallow is None or self._shallow.target is not target:
            found = self.trained or weights_for(target, "kangaroo", self.weights)
            check_fits(found, target)
            model, adapter = shallow_model(target, found.number("num_layers"))
            fill(adapter, found)
            adapter.to(device=target.device, dtype=target.dtype).eval()
            self._shallow = _Shallow(target, model)
        self._state = DraftState(replace(context, draft_model=self._shallow), self.chance)

    def propose(self, num_draft_tokens: int) -> TokenTree:
        """Return the chain that the first layers write while they are sure."""
        assert self._state is not None, "begin comes first"
        return self._state.chain(
            num_draft_tokens, lambda law: float(law.max()) >= self.min_confidence
        )

    def observe(self, step: Step) -> None:
        """Follow the target."""
        assert self._state is not None
        self._state.observe(step)


@dataclass(frozen=True, slots=True)
class _Shallow:
    """The first layers as a draft model."""

    target: Any
    model: Any
