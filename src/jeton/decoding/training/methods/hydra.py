"""Hydra heads: trained on text with the target as teacher, the target itself left as it is.

Source: Ankner et al. 2024, https://arxiv.org/abs/2402.05109, section 4: the teacher loss of
Hydra++ (the distribution of the target instead of the token that stands in the text).
Differs from the source: see `jeton.decoding.drafters.hydra`.
Cost: a forward of the target and, per head, forward and backward of the cut output matrix.
"""

from dataclasses import dataclass
from typing import ClassVar

from jeton.decoding.training.head_job import HeadTraining


@dataclass(frozen=True, slots=True)
class Hydra(HeadTraining):
    """Options of the trainer; see `HeadTraining`."""

    makes: ClassVar[str] = "hydra"
    sees_tokens: ClassVar[bool] = True
