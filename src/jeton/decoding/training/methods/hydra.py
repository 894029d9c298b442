"""Hydra heads: trained on text with the target as teacher, the target itself left as it is.

Source: Ankner et al. 2024, https://arxiv.org/abs/2402.05109, section 4: the teacher loss of
Hydra++ (the distribution of the target instead of the token that stands in the text).
Differs from the source: see `jeton.decoding.drafters.hydra`.
Cost: a forward of the target and, per head, forward and backward of the cut output matrix.
"""

from dataclasses import asdict, dataclass
from typing import ClassVar

from jeton.decoding.training.contract import Job, TrainInput
from jeton.decoding.training.head_job import head_job
from jeton.errors import ConfigError


@dataclass(frozen=True, slots=True)
class Hydra:
    """Options of the trainer.

    Attributes:
        num_heads: Tokens that can be drafted.
        width: Of the layer inside a head.
        num_ids: Token ids that can be drafted, the most frequent ones; 0 for all.
        decay: Weight of a head's loss relative to that of the head before.
        lr: Peak learning rate.
        batch_tokens: Tokens per step.
        length: Tokens per row.
    """

    num_heads: int = 3
    width: int = 384
    num_ids: int = 2048
    decay: float = 0.8
    lr: float = 2e-3
    batch_tokens: int = 2048
    length: int = 512

    makes: ClassVar[str] = "hydra"
    needs_draft: ClassVar[bool] = False

    def __post_init__(self) -> None:
        sizes = (self.num_heads, self.width, self.batch_tokens, self.length)
        if min(sizes) < 1 or self.num_ids < 0 or self.lr <= 0 or not 0 < self.decay <= 1:
            raise ConfigError(
                "num_heads, width, batch_tokens and length must be at least 1, num_ids at least "
                f"0, lr above 0 and decay in (0, 1]; got {self}"
            )

    def prepare(self, inputs: TrainInput) -> Job:
        """Return the job; see `DraftTrainer.prepare`."""
        return head_job(inputs, self.makes, sees_tokens=True, **asdict(self))
