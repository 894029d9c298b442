"""SpecDec++: a trained head on the draft model's state decides how long the draft gets.

Source: Huang et al. 2024, https://arxiv.org/abs/2405.19715, section 3.2 and Algorithm 1: drafting
stops when the predicted chance that one of the tokens is rejected exceeds a threshold.
Differs from the source: nothing in the rule; under greedy and seed-exact verification the chain is
the draft model's best guess.
Cost: one forward of the draft model per drafted token, the last one included, and the head.
"""

from dataclasses import dataclass, field
from typing import ClassVar

import torch
from torch import Tensor

from jeton.decoding.acceptance_head import AcceptanceHead, rejection_exceeds
from jeton.decoding.chance import Chance
from jeton.decoding.contract import DraftContext, Step
from jeton.decoding.draft_state import DraftState
from jeton.decoding.weights import Weights, check_fits, fill, weights_for
from jeton.errors import ConfigError
from jeton.lm.tree import TokenTree


@dataclass(slots=True)
class SpecDecPP:
    """Options of the drafter.

    Attributes:
        weights: Folder of `jeton draft train --method specdec_pp`; empty: the draft model's own.
        threshold: Stop when the chance of a rejection exceeds it.
        trained: The weights themselves, instead of a folder.
        chance: The source of random draws; None makes one from the seed.
    """

    weights: str = ""
    threshold: float = 0.7
    trained: Weights | None = None
    chance: Chance | None = None

    needs: ClassVar[frozenset[str]] = frozenset({"draft_model", "weights"})
    makes_trees: ClassVar[bool] = False
    fixes_draws: ClassVar[bool] = True

    _state: DraftState | None = field(default=None, init=False, repr=False)
    _head: AcceptanceHead | None = field(default=None, init=False, repr=False)

    def __post_init__(self) -> None:
        if not 0 <= self.threshold <= 1:
            raise ConfigError(f"threshold must be in [0, 1], got {self.threshold}")

    def begin(self, context: DraftContext) -> None:
        """Read the weights when that was not done before, and start with an empty cache."""
        model = context.draft_model.model
        if self._head is None:
            found = self.trained or weights_for(model, "specdec_pp", self.weights)
            check_fits(found, model)
            head = AcceptanceHead(found.number("hidden_size"), found.number("num_blocks"))
            fill(head, found)
            self._head = head.to(device=model.device, dtype=torch.float32).eval()
        self._state = DraftState(context, self.chance)

    def propose(self, num_draft_tokens: int) -> TokenTree:
        """Return the chain up to the token that makes a rejection too likely."""
        state, head = self._state, self._head
        assert state is not None, "begin comes first"
        assert head is not None
        accepted: list[float] = []

        def advance(token: int) -> Tensor | None:
            found = state.runner.verify(TokenTree.chain([token]), hidden=True)
            state.runner.commit([0])
            assert found.hidden is not None
            with torch.inference_mode():
                accepted.append(float(head(found.hidden[0].float()).sigmoid()))
            return None if rejection_exceeds(accepted, self.threshold) else found.logits[0]

        return state.chain(num_draft_tokens, lambda law: True, advance)

    def observe(self, step: Step) -> None:
        """Follow the target."""
        assert self._state is not None
        self._state.observe(step)
