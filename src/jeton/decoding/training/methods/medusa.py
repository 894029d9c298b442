"""Medusa heads: trained on text, the target left as it is (Medusa-1).

Source: Cai et al. 2024, https://arxiv.org/abs/2401.10774, section 2.2.1, Eq. 1: the losses of the
heads, weighted by 0.8^k.
Differs from the source: the teacher is the distribution of the target, not the token of the text;
see `jeton.decoding.drafters.medusa`.
Cost: a forward of the target and, per head, forward and backward of the cut output matrix.
"""

from dataclasses import dataclass
from typing import ClassVar

from jeton.decoding.training.head_job import HeadTraining


@dataclass(frozen=True, slots=True)
class Medusa(HeadTraining):
    """Options of the trainer; see `HeadTraining`."""

    makes: ClassVar[str] = "medusa"
    sees_tokens: ClassVar[bool] = False
