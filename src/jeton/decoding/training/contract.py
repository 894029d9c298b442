"""A trainer turns a target and text into a job; one loop runs every job.

Laws (tested over every registered trainer, see `tests/contract/test_draft_training.py`):
1. The target is not changed.
2. The loss of a step is a function of the step, the seed and the weights: a run that was stopped
   and resumed ends with the weights of one that was not.
3. What `finish` wrote is read by the drafter or verifier that `makes` names.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Protocol

from torch import Tensor, nn

from jeton.lm.load import LanguageModel

DRAFT_MODEL = "draft_model"  # the result is a model folder, for --draft-model


@dataclass(frozen=True, slots=True)
class TrainInput:
    """What a draft is trained from.

    Attributes:
        target: The model to be sped up.
        token_ids: Text in its vocabulary, documents joined, shape (seq,), int64.
        draft: The draft model that is trained further, for methods that need one.
        seed: Of everything random.
    """

    target: LanguageModel
    token_ids: Tensor
    draft: LanguageModel | None = None
    seed: int = 0


@dataclass(frozen=True, slots=True)
class Job:
    """What the loop needs to know.

    Attributes:
        module: Whose parameters with `requires_grad` are trained, in float32.
        loss_of: Of a step and the number of steps in all; a scalar with gradient.
        finish: Writes the folder.
        lr: Peak learning rate.
        tokens_per_step: For the figures.
        measure: Figures on held-out pieces; None replays them with what `finish` wrote.
    """

    module: nn.Module
    loss_of: Callable[[int, int], Tensor]
    finish: Callable[[Path], None]
    lr: float
    tokens_per_step: int
    measure: Callable[[Sequence[list[int]]], dict[str, float]] | None = None


class DraftTrainer(Protocol):
    """One published way of making a draft; options are the fields of its dataclass."""

    makes: ClassVar[str]
    needs_draft: ClassVar[bool]

    def prepare(self, inputs: TrainInput) -> Job:
        """Return the job.

        Raises:
            ConfigError: there is too little text, or the options do not fit the target.
        """
        ...
