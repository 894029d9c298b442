"""Walk a drawn tree from the root: at each node the children are judged, then one is kept or none.

Shared by the verifiers that sample: they differ only in how one level is judged.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from jeton.decoding.chance import VERIFY_STREAM, Chance, SeededChance
from jeton.decoding.contract import INDEPENDENT, Draft, Law, Selection, TreeLogits
from jeton.lm.tree import TokenTree

Judged = tuple[int | None, Tensor]
"""(index of the kept token or None, law of a fresh token in that case)."""


@dataclass(frozen=True, slots=True)
class LevelByLevel(ABC):
    """A verifier that judges the children of one node after the other.

    Attributes:
        seed: Of the decisions.
        chance: The source of decisions; None makes one from the seed.
    """

    seed: int = 0
    chance: Chance | None = None

    is_lossless: ClassVar[bool] = True
    is_sampler: ClassVar[bool | None] = True
    draws: ClassVar[str] = INDEPENDENT
    needs_fixed_draws: ClassVar[bool] = False
    needs_hidden: ClassVar[bool] = False

    @torch.inference_mode()
    def select(self, tree: TokenTree, logits: TreeLogits, position: int) -> Selection:
        """Return the accepted path, and a token drawn after it."""
        laws = tree.laws if isinstance(tree, Draft) else {}
        chance = self.chance or SeededChance(self.seed, VERIFY_STREAM)
        chance.at(position)
        path = [0]
        while True:
            node = path[-1]
            target = logits[node].double().softmax(-1)
            law = laws.get(node)
            drawn = law.drawn if law is not None else tree.children(node)
            tokens = [tree.token_ids[child] for child in drawn]
            kept, rest = self.judge(target, law, tokens, chance) if tokens else (None, target)
            if kept is None:
                return Selection(tuple(path), chance.draws(rest))
            path.append(drawn[kept])

    @abstractmethod
    def judge(
        self, target: Tensor, law: Law | None, tokens: Sequence[int], chance: Chance
    ) -> Judged:
        """Keep one of the children of a node, or none.

        Args:
            target: Law of the target, shape (vocab,), float64.
            law: How the tokens were drawn, None when they were not.
            tokens: In the order of the draws, at least one.
            chance: Decides.
        """


def judge_in_rounds(
    target: Tensor, law: Law | None, tokens: Sequence[int], chance: Chance, *, distinct: bool
) -> Judged:
    """Judge one child after the other, each against what the earlier ones left of the target.

    Child x of law q is accepted with probability min(1, target[x] / q[x]); otherwise the target
    becomes the normalized positive part of target - q. A child that was not drawn at random has
    the law of a single point.

    Args:
        target: Shape (vocab,), float64, sums to 1.
        law: How the tokens were drawn, None when they were not.
        tokens: In the order of the draws.
        chance: Decides.
        distinct: Whether the draws were without replacement.
    Returns:
        The index of the accepted token or None, and the law of a fresh token in that case.
    """
    draft = None if law is None else law.probabilities.to(target.device)
    for index, token in enumerate(tokens):
        share = 1.0 if draft is None else float(draft[token])
        if chance.accepts(min(1.0, float(target[token]) / share)):
            return index, target
        rest = target.clone()
        if draft is None:
            rest[token] = 0.0
        else:
            rest = (target - draft).clamp_min(0.0)
        total = float(rest.sum())
        if total <= 0.0:  # target = law: only rounding can reject
            return index, target
        target = rest / total
        if draft is not None and distinct:
            draft = draft.clone()
            draft[token] = 0.0
            left = float(draft.sum())
            if left <= 0.0:
                break
            draft = draft / left
    return None, target
