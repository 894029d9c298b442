"""The certificate of a move: plain numbers only."""

from dataclasses import dataclass, field
from typing import Any

from jeton.retrofit.moves.agreement import Agreement

SCHEMA_VERSION = 1


@dataclass(frozen=True, slots=True)
class ModelFigures:
    """One model with its tokenizer on the same texts.

    Attributes:
        name: As the user calls it.
        vocab_size: Ids of the tokenizer.
        num_embeddings: Rows of the input embedding, padding included.
        num_parameters: Weights, shared ones counted once.
        bits_per_byte: On the held-out text of the user's domain.
        bytes_per_token: On the same text.
        general_bits_per_byte: On general text.
        general_bytes_per_token: On general text.
    """

    name: str
    vocab_size: int
    num_embeddings: int
    num_parameters: int
    bits_per_byte: float
    bytes_per_token: float
    general_bits_per_byte: float
    general_bytes_per_token: float


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


@dataclass(frozen=True, slots=True)
class MoveResult:
    """The certificate.

    Attributes:
        schema_version: Of this document.
        verb: Which move.
        how: The destination, in words.
        init: Initializer.
        heal: Healer.
        recipe: Its name; empty for none.
        source: Figures of the model before; of the student, for distill.
        destination: Figures after.
        teacher: Figures of the teacher, for distill.
        num_kept_tokens: Tokens that the source has too.
        num_new_tokens: Tokens that it has not.
        num_copied_rows: Embedding rows taken over unchanged.
        num_composed_rows: Embedding rows made from several.
        num_fallback_rows: Embedding rows that fell back to a mean of all.
        bits_per_byte_at_start: Right after the move, before healing, on a part of the held-out
            text.
        source_bits_per_byte_at_start: Of the source, on the same part.
        agreement: Of greedy continuations with the source's (distill: the teacher's).
        healing_steps: Optimizer steps.
        healing_seconds: Wall time of healing.
        healing_bytes: Bytes of text trained on.
        healing: (step, seconds, bits per byte of the training text) along the way.
        control: The control, None when it was not asked for.
        gap_closed: Share of the gap to the control that healing closed; None without a control or
            a gap.
        held_out_bytes: Size of the held-out text.
        general_bytes: Size of the general text.
        general_source: Where the general text comes from.
        regressions: What became worse, in words.
        timings_s: Seconds of each stage.
        environment: Versions and machine.
    """

    schema_version: int
    verb: str
    how: str
    init: str
    heal: str
    recipe: str
    source: ModelFigures
    destination: ModelFigures
    teacher: ModelFigures | None
    num_kept_tokens: int
    num_new_tokens: int
    num_copied_rows: int
    num_composed_rows: int
    num_fallback_rows: int
    bits_per_byte_at_start: float
    source_bits_per_byte_at_start: float
    agreement: Agreement
    healing_steps: int
    healing_seconds: float
    healing_bytes: int
    healing: list[tuple[int, float, float]]
    control: Control | None
    gap_closed: float | None
    held_out_bytes: int
    general_bytes: int
    general_source: str
    regressions: list[str] = field(default_factory=list)
    timings_s: dict[str, float] = field(default_factory=dict)
    environment: dict[str, Any] = field(default_factory=dict)
