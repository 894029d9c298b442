"""What a retrofit hands back: the certificate, plain numbers only."""

from dataclasses import dataclass, field
from typing import Any

from jeton.audit.run import AuditResult
from jeton.retrofit.speed import Speed

SCHEMA_VERSION = 1


@dataclass(frozen=True, slots=True)
class SideFigures:
    """Figures of one model with its tokenizer, source or destination.

    Attributes:
        name: As the user calls it.
        vocab_size: Ids of the tokenizer.
        num_parameters: Weights, shared ones counted once.
        size_bytes: Memory of the weights.
        bytes_per_token: On the held-out text.
        bits_per_byte: On the held-out text of the user's domain.
        general_bits_per_byte: On general text.
        general_bytes_per_token: On general text.
        speed: Of decoding held-out text.
    """

    name: str
    vocab_size: int
    num_parameters: int
    size_bytes: int
    bytes_per_token: float
    bits_per_byte: float
    general_bits_per_byte: float
    general_bytes_per_token: float
    speed: Speed


@dataclass(frozen=True, slots=True)
class RetrofitResult:
    """The certificate.

    Attributes:
        schema_version: Of this document.
        source: Figures before.
        destination: Figures after.
        num_new_tokens: Tokens that the source does not have.
        num_kept_tokens: Tokens taken over from the source.
        num_copied_rows: Embedding rows taken over unchanged.
        num_composed_rows: Embedding rows made from several.
        bits_per_byte_at_start: Destination right after the transplant, before healing, on a part
            of the held-out text.
        healing_steps: Optimizer steps.
        healing_bytes: Bytes of text trained on.
        healing: (step, seconds, bits per byte of the training text) along the way.
        held_out_bytes: Size of the held-out text.
        held_out_files: Where it comes from.
        general_source: Where the general text comes from.
        general_bytes: Size of the general text.
        drafter: Of the speculative figures.
        strip: A sample of held-out text as tokens of the source and of the destination.
        audits: Of both tokenizers on the held-out text.
        regressions: What became worse, in words; empty when nothing did.
        timings_s: Seconds of each stage.
        environment: Versions and machine.
    """

    schema_version: int
    source: SideFigures
    destination: SideFigures
    num_new_tokens: int
    num_kept_tokens: int
    num_copied_rows: int
    num_composed_rows: int
    bits_per_byte_at_start: float
    healing_steps: int
    healing_bytes: int
    healing: list[tuple[int, float, float]]
    held_out_bytes: int
    held_out_files: list[str]
    general_source: str
    general_bytes: int
    drafter: str
    strip: list[list[bytes]]
    audits: list[AuditResult]
    regressions: list[str] = field(default_factory=list)
    timings_s: dict[str, float] = field(default_factory=dict)
    environment: dict[str, Any] = field(default_factory=dict)


def without_timings(document: dict[str, Any]) -> dict[str, Any]:
    """Return a `result.json` without what the clock decides, to compare two runs."""
    figures = {k: v for k, v in document.items() if k not in ("timings_s", "environment")}
    for side in ("source", "destination"):
        figures[side] = {k: v for k, v in figures[side].items() if k != "speed"}
    figures["healing"] = [[step, bits] for step, _, bits in figures["healing"]]
    # Speed decides one of the regressions.
    figures["regressions"] = [text for text in figures["regressions"] if "slower" not in text]
    return figures
