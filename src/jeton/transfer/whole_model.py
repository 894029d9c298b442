"""Options of healers that train every weight, the embeddings first."""

from dataclasses import dataclass
from typing import Any

from jeton.errors import ConfigError
from jeton.transfer.contract import HealInput
from jeton.transfer.training import (
    Group,
    TrainingOptions,
    body_parameters,
    embedding_parameters,
)


@dataclass(frozen=True, slots=True)
class WholeModelOptions(TrainingOptions):
    """Options, those of `TrainingOptions` and:

    Attributes:
        embeddings_only: Share of the steps, at the start, that train the embeddings alone.
    """

    embeddings_only: float = 0.1

    def __post_init__(self) -> None:
        TrainingOptions.__post_init__(self)
        if not 0 <= self.embeddings_only <= 1:
            raise ConfigError(f"embeddings_only must lie in [0, 1], got {self.embeddings_only}")

    def groups(self, model: Any) -> list[Group]:
        """Return all parameters of a model, the body resting at the start."""
        return [
            Group(embedding_parameters(model), self.lr_embeddings),
            Group(body_parameters(model), self.lr_body, self.embeddings_only),
        ]


def check_teacher(inputs: HealInput, name: str) -> None:
    """Raise ConfigError where a healer that needs a teacher has none."""
    if inputs.teacher is None or inputs.teacher_vocabulary is None:
        raise ConfigError(f"{name} needs a teacher with its vocabulary")
