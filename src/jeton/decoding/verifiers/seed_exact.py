"""Seed-exact sampling: the drawn tokens are those of plain sampling with the same seed.

Source: Gumbel-max sampling (Gumbel 1954; Maddison et al. 2014, https://arxiv.org/abs/1411.0030)
with noise keyed by seed and absolute position; used for speculation so that losslessness is an
equality of token ids and not only of distributions.
Differs from the source: nothing.
Cost: one row of noise per depth of the tree.
"""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from jeton.decoding.contract import Selection
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

    def select(self, tree: TokenTree, logits: Tensor, position: int) -> Selection:
        """Return the path along which the perturbed argmax of each node is drafted."""
        depths = [depth - int(tree.depths[0]) for depth in tree.depths]
        noise = {d: gumbel(self.seed, position + d, logits.shape[-1]) for d in sorted({*depths})}
        rows = torch.stack([noise[d] for d in depths]).to(logits.device)
        chosen = (logits.double() + rows).argmax(-1).tolist()
        return follow(tree, chosen)
