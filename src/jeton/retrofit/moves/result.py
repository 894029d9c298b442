"""The certificate of a move."""

from dataclasses import dataclass, field

from jeton.retrofit.moves.agreement import Agreement
from jeton.retrofit.result import Certificate, ModelFigures


@dataclass(frozen=True, slots=True)
class Control:
    """The model before the move, trained for the same seconds on the same text.

    Attributes:
        steps: Optimizer steps of cross-entropy.
        seconds: Of training.
        bits_per_byte: On the held-out text.
        general_bits_per_byte: On general text.
        curve: (step, seconds, bits per byte of the training text).
    """

    steps: int
    seconds: float
    bits_per_byte: float
    general_bits_per_byte: float
    curve: list[tuple[int, float, float]] = field(default_factory=list)


@dataclass(frozen=True, slots=True, kw_only=True)
class MoveResult(Certificate):
    """The certificate of a move.

    Attributes:
        verb: Which move.
        how: The destination, in words.
        recipe: Its name; empty for none.
        teacher: Figures of the teacher, for distill; the source is the student before.
        agreement: Of greedy continuations with the source's (distill: the teacher's).
        control: The control, None when it was not asked for.
        gap_closed: Share of the gap to the control that healing closed; None without a control or
            a gap.
    """

    verb: str
    how: str
    recipe: str
    teacher: ModelFigures | None
    agreement: Agreement
    control: Control | None
    gap_closed: float | None
