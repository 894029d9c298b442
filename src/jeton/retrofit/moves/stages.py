"""The stages that only a move has: its figures, the control, and the certificate."""

from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from jeton.core.progress import Progress
from jeton.core.vocabulary import Vocabulary
from jeton.lm.bits import bits_per_byte
from jeton.lm.load import LanguageModel
from jeton.retrofit import stages
from jeton.retrofit.moves.agreement import Agreement, greedy_agreement
from jeton.retrofit.moves.config import MoveConfig
from jeton.retrofit.moves.result import SCHEMA_VERSION, Control, ModelFigures, MoveResult
from jeton.retrofit.texts import Texts
from jeton.transfer.registry import HEALERS

GENERAL_LIMIT = 0.01  # general text may lose this share before it counts as a regression
DOMAIN_LIMIT = 0.0


def figures(lm: LanguageModel, texts: Texts, progress: Progress) -> dict[str, Any]:
    """Return bits per byte on domain, general and starting text, and the model's sizes."""
    start = bits_per_byte(lm, stages.start_sample(texts), progress=progress)
    return {
        **stages.bits(lm, texts, progress),
        "start": start.bits_per_byte,
        "num_parameters": lm.num_parameters,
        "num_embeddings": lm.num_embeddings,
        "vocab_size": lm.vocabulary.vocab_size,
    }


def agreement(reference: LanguageModel, destination: LanguageModel, texts: Texts) -> dict[str, Any]:
    """Return how far both models write the same bytes."""
    return asdict(greedy_agreement(reference, destination, texts.held_out))


def control(
    config: MoveConfig,
    source: LanguageModel,
    texts: Texts,
    seconds: float,
    work: Path,
    progress: Progress,
) -> dict[str, Any]:
    """Train the source on its own tokens for as many seconds as the destination was healed."""
    own: Vocabulary = source.vocabulary
    shared = {"batch_tokens", "micro_tokens", "length", "replay", "precision", "compile"}
    options = {
        f"cross_entropy.{name}": value
        for name, value in config.options_for(config.heal).items()
        if name in shared
    }
    asked = replace(
        config, init="mean", heal="cross_entropy", steps=-1, minutes=seconds / 60, options=options
    )
    planned = stages.plan(asked, source, own, texts)
    inputs = stages.heal_input(asked, source, own, texts, planned["num_steps"])
    inputs = replace(inputs, progress=progress, checkpoint=work / "control.pt")
    healer = HEALERS.create("cross_entropy", asked.options_for("cross_entropy"))
    result = healer.heal(inputs)
    trained = replace(source, model=inputs.model.eval())
    found = stages.bits(trained, texts, progress)
    return {
        "steps": result.num_steps,
        "seconds": result.seconds,
        "bits_per_byte": found["domain"].bits_per_byte,
        "general_bits_per_byte": found["general"].bits_per_byte,
        "curve": [(p.step, p.seconds, p.bits_per_byte) for p in result.curve],
    }


def certificate(config: MoveConfig, texts: Texts, done: dict[str, Any]) -> MoveResult:
    """Put the outcomes of all stages together."""
    source = _side(config.model, done["source figures"])
    destination = _side("destination", done["destination figures"])
    teacher = _side(config.teacher, done["teacher figures"]) if config.verb == "distill" else None
    made, start, healed = done["destination"], done["transplant"], done["heal"]
    compared = Control(**done["control"]) if "control" in done else None
    result = MoveResult(
        schema_version=SCHEMA_VERSION,
        verb=config.verb,
        how=made["how"],
        init=config.init,
        heal=config.heal,
        recipe=config.recipe,
        source=source,
        destination=destination,
        teacher=teacher,
        num_kept_tokens=made["num_kept"],
        num_new_tokens=made["num_new"],
        num_copied_rows=start["num_copied"],
        num_composed_rows=start["num_composed"],
        num_fallback_rows=start["num_fallback"],
        bits_per_byte_at_start=start["bits_per_byte"],
        source_bits_per_byte_at_start=done["source figures"]["start"],
        agreement=Agreement(**done["agreement"]),
        healing_steps=healed["num_steps"],
        healing_seconds=healed["seconds"],
        healing_bytes=healed["num_bytes"],
        healing=[(p["step"], p["seconds"], p["bits_per_byte"]) for p in healed["curve"]],
        control=compared,
        gap_closed=gap_closed(done, compared),
        held_out_bytes=done["source figures"]["domain"]["num_bytes"],
        general_bytes=done["source figures"]["general"]["num_bytes"],
        general_source=texts.general_source,
    )
    return replace(result, regressions=regressions(result))


def gap_closed(done: dict[str, Any], compared: Control | None) -> float | None:
    """Return the share of the zero-shot gap that healing closed, against the control."""
    if compared is None:
        return None
    before = done["transplant"]["bits_per_byte"] - done["source figures"]["start"]
    after = done["destination figures"]["domain"]["bits_per_byte"] - compared.bits_per_byte
    return 1 - after / before if before > 0 else None


def regressions(result: MoveResult) -> list[str]:
    """Return what is worse after than before, in words; empty when nothing is."""
    found = []
    before, after = result.source, result.destination
    lost = after.bits_per_byte / before.bits_per_byte - 1
    if lost > DOMAIN_LIMIT:
        found.append(
            f"bits per byte on your text rose by {lost:.1%}, from {before.bits_per_byte:.4f} to "
            f"{after.bits_per_byte:.4f}: heal for longer (--minutes)"
        )
    lost = after.general_bits_per_byte / before.general_bits_per_byte - 1
    if lost > GENERAL_LIMIT:
        found.append(
            f"bits per byte on general text rose by {lost:.1%}, from "
            f"{before.general_bits_per_byte:.4f} to {after.general_bits_per_byte:.4f}: mix in more "
            f"text of that kind (--general, --set {result.heal}.replay=0.5)"
        )
    return found


def _side(name: str, found: dict[str, Any]) -> ModelFigures:
    return ModelFigures(
        name=name,
        vocab_size=found["vocab_size"],
        num_embeddings=found["num_embeddings"],
        num_parameters=found["num_parameters"],
        bits_per_byte=found["domain"]["bits_per_byte"],
        bytes_per_token=found["domain"]["bytes_per_token"],
        general_bits_per_byte=found["general"]["bits_per_byte"],
        general_bytes_per_token=found["general"]["bytes_per_token"],
    )
