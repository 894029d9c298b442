"""What moves a model onto another vocabulary: an initializer fills the rows, a healer trains them.

Laws (tested over every registered method, see `jeton.testing.transfer`):
1. Identity: when both vocabularies are equal, the result is bit-identical to the source.
2. Permutation: when the destination only renumbers the source's ids, rows follow their tokens.
3. Shared rows are copied: a destination token whose bytes and kind exist in the source starts as
   that row (initializers that say otherwise set `copies_shared = False`).
4. No row is left untouched or not finite; tied matrices stay tied (no output matrix is returned).
5. A healer continues from its checkpoint to the same weights as an uninterrupted run.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Protocol

from torch import Tensor

from jeton.core.progress import NO_PROGRESS, Progress
from jeton.core.vocabulary import Vocabulary


@dataclass(frozen=True, slots=True)
class InitInput:
    """What an initializer may look at.

    Attributes:
        source: Vocabulary of the matrices below.
        destination: Vocabulary whose rows are wanted.
        input_embeddings: Shape (source num_embeddings, hidden); padded rows are never used.
        output_embeddings: The same shape, or None when the model ties its matrices.
        output_bias: Shape (source num_embeddings,), or None.
        texts: Text of the user, for methods that learn from it.
        seed: Of whatever is random.
        model: The source model, for methods that run it; never changed by them.
    """

    source: Vocabulary
    destination: Vocabulary
    input_embeddings: Tensor
    output_embeddings: Tensor | None = None
    output_bias: Tensor | None = None
    texts: Sequence[str] = ()
    seed: int = 0
    model: Any = None


@dataclass(frozen=True, slots=True)
class InitResult:
    """Destination matrices, rows in id order.

    Attributes:
        input_embeddings: Shape (destination vocab_size, hidden).
        output_embeddings: The same shape; None when tied.
        output_bias: Shape (destination vocab_size,), or None.
        num_copied: Rows taken over unchanged.
        num_composed: Rows made from several source rows.
        num_fallback: Rows that fell back to the mean of all rows.
    """

    input_embeddings: Tensor
    output_embeddings: Tensor | None
    output_bias: Tensor | None
    num_copied: int
    num_composed: int
    num_fallback: int


class EmbeddingInitializer(Protocol):
    """Fills the destination's rows from the source's."""

    copies_shared: ClassVar[bool]

    def initialize(self, inputs: InitInput) -> InitResult:
        """Return the destination matrices; the source's are not changed."""
        ...


@dataclass(frozen=True, slots=True)
class HealInput:
    """What a healer trains.

    Attributes:
        model: The destination model (a `PreTrainedModel`); trained in place, in float32 weights.
        vocabulary: The destination vocabulary.
        teacher: The source model for methods that distil, or None.
        teacher_vocabulary: Vocabulary of the teacher.
        token_ids: The domain's training text, shape (seq,), documents already joined.
        replay_ids: General text mixed in against forgetting, shape (seq,), or None.
        num_steps: Optimizer steps to reach.
        seed: Of the order of the text.
        checkpoint: File that a killed run continues from; None keeps nothing.
        progress: Where to report.
    """

    model: Any
    vocabulary: Vocabulary
    token_ids: Tensor
    num_steps: int
    teacher: Any = None
    teacher_vocabulary: Vocabulary | None = None
    replay_ids: Tensor | None = None
    seed: int = 0
    checkpoint: Path | None = None
    progress: Progress = NO_PROGRESS


@dataclass(frozen=True, slots=True)
class HealPoint:
    """One point of the healing curve; `bits_per_byte` is the training text's, smoothed."""

    step: int
    seconds: float
    bits_per_byte: float


@dataclass(frozen=True, slots=True)
class HealResult:
    """What healing did."""

    num_steps: int
    num_tokens: int
    num_bytes: int
    seconds: float
    curve: list[HealPoint] = field(default_factory=list)


class Healer(Protocol):
    """Trains a transplanted model until it speaks its new vocabulary."""

    needs_teacher: ClassVar[bool]

    def heal(self, inputs: HealInput) -> HealResult:
        """Train in place up to `inputs.num_steps`, continuing from the checkpoint if there is one.

        Raises:
            CorruptRunError: the checkpoint belongs to another configuration.
        """
        ...
