"""What a job hands back: the certificate, plain numbers only."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from jeton.audit.run import AuditResult
from jeton.retrofit.speed import Speed

SCHEMA_VERSION = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelFigures:
    """One model with its tokenizer on the same texts.

    Attributes:
        name: As the user calls it.
        vocab_size: Ids of the tokenizer.
        num_embeddings: Rows of the input embedding, padding included.
        num_parameters: Weights, shared ones counted once.
        size_bytes: Memory of the weights.
        bytes_per_token: On the held-out text.
        bits_per_byte: On the held-out text of the user's domain.
        general_bits_per_byte: On general text.
        general_bytes_per_token: On general text.
    """

    name: str
    vocab_size: int
    num_embeddings: int
    num_parameters: int
    size_bytes: int
    bytes_per_token: float
    bits_per_byte: float
    general_bits_per_byte: float
    general_bytes_per_token: float


@dataclass(frozen=True, slots=True, kw_only=True)
class SideFigures(ModelFigures):
    """Figures of the source or the destination of a retrofit.

    Attributes:
        speed: Of decoding held-out text.
    """

    speed: Speed


@dataclass(frozen=True, slots=True, kw_only=True)
class Certificate:
    """What every job certifies.

    Attributes:
        schema_version: Of this document.
        init: Initializer.
        heal: Healer.
        source: Figures before.
        destination: Figures after.
        num_kept_tokens: Tokens that the source has too.
        num_new_tokens: Tokens that it has not.
        num_copied_rows: Embedding rows taken over unchanged.
        num_composed_rows: Embedding rows made from several.
        num_fallback_rows: Embedding rows that fell back to a mean of all.
        bits_per_byte_at_start: Right after the move, before healing, on a part of the held-out
            text.
        source_bits_per_byte_at_start: Of the source, on the same part.
        healing_steps: Optimizer steps.
        healing_seconds: Wall time of healing.
        healing_bytes: Bytes of text trained on.
        healing: (step, seconds, bits per byte of the training text) along the way.
        held_out_bytes: Size of the held-out text.
        general_bytes: Size of the general text.
        general_source: Where the general text comes from.
        regressions: What became worse, in words; empty when nothing did.
        timings_s: Seconds of each stage.
        environment: Versions and machine.
    """

    schema_version: int = SCHEMA_VERSION
    init: str
    heal: str
    source: ModelFigures
    destination: ModelFigures
    num_kept_tokens: int
    num_new_tokens: int
    num_copied_rows: int
    num_composed_rows: int
    num_fallback_rows: int
    bits_per_byte_at_start: float
    source_bits_per_byte_at_start: float
    healing_steps: int
    healing_seconds: float
    healing_bytes: int
    healing: list[tuple[int, float, float]]
    held_out_bytes: int
    general_bytes: int
    general_source: str
    regressions: list[str] = field(default_factory=list)
    timings_s: dict[str, float] = field(default_factory=dict)
    environment: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class RetrofitResult(Certificate):
    """The certificate of a retrofit.

    Attributes:
        held_out_files: Where the held-out text comes from.
        drafter: Of the speculative figures.
        strip: A sample of held-out text as tokens of the source and of the destination.
        audits: Of both tokenizers on the held-out text.
    """

    source: SideFigures
    destination: SideFigures
    held_out_files: list[str]
    drafter: str
    strip: list[list[bytes]]
    audits: list[AuditResult]


def figures_of(name: str, found: Mapping[str, Any]) -> ModelFigures:
    """Return a model's figures from the outcome of the stage that measured them."""
    return ModelFigures(
        name=name,
        vocab_size=found["vocab_size"],
        num_embeddings=found["num_embeddings"],
        num_parameters=found["num_parameters"],
        size_bytes=found["size_bytes"],
        bytes_per_token=found["domain"]["bytes_per_token"],
        bits_per_byte=found["domain"]["bits_per_byte"],
        general_bits_per_byte=found["general"]["bits_per_byte"],
        general_bytes_per_token=found["general"]["bytes_per_token"],
    )


def common_fields(done: Mapping[str, Any], general_source: str) -> dict[str, Any]:
    """Return the fields of a certificate that come from the stages which every job has.

    Args:
        done: Outcomes of the stages, by name.
        general_source: Where the general text comes from.
    """
    made, start, healed = done["destination"], done["transplant"], done["heal"]
    return {
        "num_kept_tokens": made["num_kept"],
        "num_new_tokens": made["num_new"],
        "init": start["init"],
        "num_copied_rows": start["num_copied"],
        "num_composed_rows": start["num_composed"],
        "num_fallback_rows": start["num_fallback"],
        "bits_per_byte_at_start": start["bits_per_byte"],
        "source_bits_per_byte_at_start": start["source_bits_per_byte"],
        "healing_steps": healed["num_steps"],
        "healing_seconds": healed["seconds"],
        "healing_bytes": healed["num_bytes"],
        "healing": [(p["step"], p["seconds"], p["bits_per_byte"]) for p in healed["curve"]],
        "held_out_bytes": done["source figures"]["domain"]["num_bytes"],
        "general_bytes": done["source figures"]["general"]["num_bytes"],
        "general_source": general_source,
    }


def lost_bits(
    source: ModelFigures, destination: ModelFigures, heal: str, general_limit: float
) -> list[str]:
    """Return in words where the destination needs more bits per byte; empty where it does not.

    Args:
        source: Before.
        destination: After.
        heal: The healer, for the hint.
        general_limit: Share that general text may lose before it counts.
    """
    found = []
    lost = destination.bits_per_byte / source.bits_per_byte - 1
    if lost > 0:
        found.append(
            f"bits per byte on your text rose by {lost:.1%}, from {source.bits_per_byte:.4f} to "
            f"{destination.bits_per_byte:.4f}: heal for longer (--minutes)"
        )
    lost = destination.general_bits_per_byte / source.general_bits_per_byte - 1
    if lost > general_limit:
        found.append(
            f"bits per byte on general text rose by {lost:.1%}, from "
            f"{source.general_bits_per_byte:.4f} to {destination.general_bits_per_byte:.4f}: mix "
            f"in more text of that kind (--general, --set {heal}.replay=0.5)"
        )
    return found


def without_timings(document: dict[str, Any]) -> dict[str, Any]:
    """Return a `result.json` without what the clock decides, to compare two runs."""
    clocked = ("timings_s", "environment", "healing_seconds")
    figures = {k: v for k, v in document.items() if k not in clocked}
    for side in ("source", "destination"):
        figures[side] = {k: v for k, v in figures[side].items() if k != "speed"}
    figures["healing"] = [[step, bits] for step, _, bits in figures["healing"]]
    # Speed decides one of the regressions.
    figures["regressions"] = [text for text in figures["regressions"] if "slower" not in text]
    return figures


def with_speed(figures: ModelFigures, speed: Mapping[str, Any]) -> SideFigures:
    """Return the figures of one side of a retrofit."""
    return SideFigures(**asdict(figures), speed=Speed(**speed))
