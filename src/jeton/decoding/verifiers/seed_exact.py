"""Seed-exact sampling: the drawn tokens are those of plain sampling with the same seed.

Source: Gumbel-max sampling (Gumbel 1954; Maddison et al. 2014, https://arxiv.org/abs/1411.0030)
with noise keyed by seed and absolute position; used for speculation so that losslessness is an
equality of token ids and not only of distributions.
Differs from the source: nothing.
Cost: one row of noise per accepted token.
"""

from dataclasses import dataclass
from typing import ClassVar

from jeton.decoding.contract import COUPLED, Selection, TreeLogits
from jeton.decoding.noise import gumbel
from jeton.decoding.walk import follow
from jeton.lm.tree import TokenTree


@dataclass(frozen=True, slots=True)
class SeedExact:
    """Options of the verifier.

    Attributes:
        seed: Of the noise.
    """

    seed: int = 0

    is_lossless: ClassVar[bool] = True
    is_sampler: ClassVar[bool | None] = True
    draws: ClassVar[str] = COUPLED
    needs_fixed_draws: ClassVar[bool] = False
    needs_hidden: ClassVar[bool] = False

    def select(self, tree: TokenTree, logits: TreeLogits, position: int) -> Selection:
        """Return the path along which the perturbed argmax of each node is drafted."""

        def choose(node: int) -> int:
            row = logits[node].double()
            noise = gumbel(self.seed, position + tree.depths[node], row.shape[-1])
            return int((row + noise.to(row.device)).argmax())

        return follow(tree, choose)
