"""Medusa: heads on the target's last hidden state, each guessing one place further on.

Source: Cai et al. 2024, https://arxiv.org/abs/2401.10774, section 2.1 (heads as residual blocks
on the last hidden state) and 2.1.2 (the tree of their best guesses).
Differs from the source: the heads share the target's output matrix, cut to frequent tokens, and
are two layers without a residual path; the tree is grown for each budget by the
heads' own confidence instead of a fixed template.
Cost: per step and head two small layers and one product with the cut output matrix.
"""

from dataclasses import dataclass
from typing import ClassVar

from jeton.decoding.head_drafter import HeadDrafter


@dataclass(slots=True)
class Medusa(HeadDrafter):
    """Options of the drafter; see `HeadDrafter`. A head's guesses follow every guess before."""

    kind: ClassVar[str] = "medusa"
    sees_tokens: ClassVar[bool] = False
