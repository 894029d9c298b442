"""DySpec: a tree that grows where the draft model is sure.

Source: Xiong et al. 2024, https://arxiv.org/abs/2410.11744, Algorithm 2 (threshold construction).
Differs from the source: the threshold is 1 / budget; draws are without or with replacement as the
verifier asks, and not random under greedy and seed-exact verification.
Cost: one forward of the draft model over the tree per level, at most `max_depth`.
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
class _Growing:
    """A tree under construction; values are estimated probabilities of acceptance."""

    token_ids: list[int] = field(default_factory=list)
    parents: list[int] = field(default_factory=list)
    values: list[float] = field(default_factory=list)
    logq: list[float] = field(default_factory=list)
    laws: dict[int, Law] = field(default_factory=dict)

    def path(self, node: int) -> list[int]:
        """Return the tokens down to a node."""
        tokens: list[int] = []
        while node >= 0:
            tokens.append(self.token_ids[node])
            node = self.parents[node]
        return tokens[::-1]


@dataclass(slots=True)
class DySpec:
    """Options of the drafter.

    Attributes:
        max_depth: Levels of the tree, one draft forward each.
        chance: The source of random draws; None makes one from the seed.
    """

    max_depth: int = 6
    chance: Chance | None = None

    needs: ClassVar[frozenset[str]] = frozenset({"draft_model"})
    makes_trees: ClassVar[bool] = True
    fixes_draws: ClassVar[bool] = False  # whether to draw again depends on what was drawn

    _state: DraftState | None = field(default=None, init=False, repr=False)

    def __post_init__(self) -> None:
        if self.max_depth < 1:
            raise ConfigError(f"max_depth must be at least 1, got {self.max_depth}")

    def begin(self, context: DraftContext) -> None:
        """Start with an empty cache."""
        self._state = DraftState(context, self.chance)
        if not self._state.runner.supports_trees:
            raise UnsupportedModelError(
                f"the draft model {context.draft_model.name} takes no token trees",
                hint="use the drafter draft_model",
            )

    def propose(self, num_draft_tokens: int) -> TokenTree:
        """Return the tree of all nodes whose value reached the threshold when they were drawn."""
        state = self._state
        assert state is not None, "begin comes first"
        tree = _Growing()
        level = [-1]
        for depth in range(min(self.max_depth, state.room(num_draft_tokens))):
            if depth == 0:
                rows = {-1: state.read()}
            else:
                logits = state.logits_of(TokenTree(tree.token_ids, tree.parents))
                rows = {node: logits[node] for node in level}
            first = len(tree.token_ids)
            for node in level:
                law = state.law(rows[node], tree.path(node))
                self._grow(state, tree, node, law, depth, num_draft_tokens)
            level = list(range(first, len(tree.token_ids)))
            if not level or len(tree.token_ids) == num_draft_tokens:
                break
        return Draft(tree.token_ids, tree.parents, tree.logq, None, tree.laws)

    def _grow(
        self, state: DraftState, tree: _Growing, node: int, law: Tensor, depth: int, budget: int
    ) -> None:
        """Draw children of a node while the next one is worth more than the threshold."""
        value = tree.values[node] if node >= 0 else 1.0
        rest = law
        nodes: dict[int, int] = {}
        drawn: list[int] = []
        while value >= 1.0 / budget and len(tree.token_ids) < budget and float(rest.sum()) > 0:
            token = state.draw(rest, depth)
            share = float(rest[token])
            if token not in nodes:
                nodes[token] = len(tree.token_ids)
                tree.token_ids.append(token)
                tree.parents.append(node)
                tree.values.append(value * share)
                tree.logq.append(math.log(max(float(law[token]), 1e-300)))
            drawn.append(nodes[token])
            value *= 1.0 - share
            if state.is_coupled or state.is_distinct:
                rest = without(rest, token)
        if drawn and not state.is_coupled:
            tree.laws[node] = Law(law, tuple(drawn))

    def observe(self, step: Step) -> None:
        """Follow the target."""
        assert self._state is not None
        self._state.observe(step)
