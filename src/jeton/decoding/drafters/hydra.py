"""Hydra: heads on the target's last hidden state that see what was drafted before them.

Source: Ankner et al. 2024, https://arxiv.org/abs/2402.05109, section 3: head i reads the hidden
state and the embeddings of the tokens up to its place, so that each path gets its own guesses.
Differs from the source: the heads share the target's output matrix, cut to frequent tokens, and
are two layers without a residual path; the tree is grown for each budget by the
heads' own confidence instead of a fixed template.
Cost: per level two small layers and one product with the cut output matrix, for `beam` paths.
"""

from dataclasses import dataclass
from typing import ClassVar

from jeton.decoding.head_drafter import HeadDrafter


@dataclass(slots=True)
class Hydra(HeadDrafter):
    """Options of the drafter; see `HeadDrafter`."""

    branching: int = 6
    beam: int = 4

    kind: ClassVar[str] = "hydra"
    sees_tokens: ClassVar[bool] = True
