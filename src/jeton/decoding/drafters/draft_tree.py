"""A tree of constant branching from a draft model: several draws at each level.

Source: Jeon et al. 2024 (RSD-C), https://arxiv.org/abs/2402.14160, Algorithm 1; with branching at
the first level only, the k drafts of Sun et al. 2023 (SpecTr), https://arxiv.org/abs/2310.15141.
Differs from the source: levels that do not fit the budget are left out; draws are without or with
replacement as the verifier asks, and not random under greedy and seed-exact verification.
Cost: one forward of the draft model over the tree per level.
"""

import math
from dataclasses import dataclass, field
from typing import ClassVar

from torch import Tensor

from jeton.decoding.chance import Chance
from jeton.decoding.contract import Draft, DraftContext, Law, Step
from jeton.decoding.draft_state import DraftState, without
from jeton.errors import ConfigError, UnsupportedModelError
from jeton.lm.tree import TokenTree


@dataclass(slots=True)
class DraftTree:
    """Options of the drafter.

    Attributes:
        branching: Draws per node at each level, separated by commas; deeper levels draw one.
        chance: The source of random draws; None makes one from the seed.
    """

    branching: str = "2,2"
    chance: Chance | None = None

    needs: ClassVar[frozenset[str]] = frozenset({"draft_model"})
    makes_trees: ClassVar[bool] = True
    fixes_draws: ClassVar[bool] = True

    _factors: list[int] = field(default_factory=list, init=False, repr=False)
    _state: DraftState | None = field(default=None, init=False, repr=False)

    def __post_init__(self) -> None:
        parts = self.branching.split(",")
        if not all(part.strip().isdigit() and int(part) > 0 for part in parts):
            raise ConfigError(
                f"branching must be numbers of 1 or more, such as 3,2,1; got {self.branching!r}"
            )
        self._factors = [int(part) for part in parts]

    def begin(self, context: DraftContext) -> None:
        """Start with an empty cache."""
        self._state = DraftState(context, self.chance)
        if not self._state.runner.supports_trees:
            raise UnsupportedModelError(
                f"the draft model {context.draft_model.name} takes no token trees",
                hint="use the drafter draft_model",
            )

    def propose(self, num_draft_tokens: int) -> TokenTree:
        """Return the tree; its shape depends on the budget alone, save for equal siblings."""
        state = self._state
        assert state is not None, "begin comes first"
        budget = num_draft_tokens
        token_ids: list[int] = []
        parents: list[int] = []
        logq: list[float] = []
        laws: dict[int, Law] = {}
        level, width = [-1], 1
        for depth in range(state.room(num_draft_tokens)):
            factor = self._factors[depth] if depth < len(self._factors) else 1
            # Counted without equal siblings: how many are drawn must not depend on the draws.
            factor = min(factor, budget // width)
            if not factor:
                break
            width *= factor
            budget -= width
            if depth == 0:
                rows = {-1: state.read()}
            else:
                logits = state.logits_of(TokenTree(token_ids, parents))
                rows = {node: logits[node] for node in level}
            below: list[int] = []
            for node in level:
                path = _tokens_to(token_ids, parents, node)
                law = state.law(rows[node], path)
                children = self._draw(state, law, factor, depth)
                nodes = {}
                for token in children:
                    if token not in nodes:
                        nodes[token] = len(token_ids)
                        token_ids.append(token)
                        parents.append(node)
                        logq.append(math.log(max(float(law[token]), 1e-300)))
                if not state.is_coupled:
                    laws[node] = Law(law, tuple(nodes[token] for token in children))
                below.extend(nodes.values())
            level = below
        return Draft(token_ids, parents, logq, None, laws)

    def _draw(self, state: DraftState, law: Tensor, count: int, depth: int) -> list[int]:
        """Return `count` draws, fewer where the support is smaller and draws are distinct."""
        drawn: list[int] = []
        for _ in range(count):
            if float(law.sum()) <= 0:
                break
            drawn.append(state.draw(law, depth))
            if state.is_coupled or state.is_distinct:
                law = without(law, drawn[-1])
        return drawn

    def observe(self, step: Step) -> None:
        """Follow the target."""
        assert self._state is not None
        self._state.observe(step)


def _tokens_to(token_ids: list[int], parents: list[int], node: int) -> list[int]:
    path: list[int] = []
    while node >= 0:
        path.append(token_ids[node])
        node = parents[node]
    return path[::-1]
