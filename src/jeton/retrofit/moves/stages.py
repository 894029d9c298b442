"""The stages that only a move has: the control, and the certificate."""

from dataclasses import replace
from pathlib import Path
from typing import Any

from jeton.core.progress import Progress
from jeton.lm.bits import bits_per_byte
from jeton.lm.load import LanguageModel
from jeton.retrofit.healing import Healing
from jeton.retrofit.moves.agreement import Agreement
from jeton.retrofit.moves.config import MoveConfig
from jeton.retrofit.moves.result import Control, MoveResult
from jeton.retrofit.result import common_fields, figures_of, lost_bits
from jeton.retrofit.texts import Texts

GENERAL_LIMIT = 0.01  # general text may lose this share before it counts as a regression
_SHARED = ("batch_tokens", "micro_tokens", "length", "replay", "precision", "compile")


def control_of(
    config: MoveConfig, source: LanguageModel, texts: Texts, seconds: float, progress: Progress
) -> Healing:
    """Return the training of the source on its own tokens for so many seconds."""
    given = config.options_for(config.heal)
    options = {f"cross_entropy.{name}": given[name] for name in _SHARED if name in given}
    asked = replace(
        config, init="mean", heal="cross_entropy", steps=-1, minutes=seconds / 60, options=options
    )
    return Healing(asked, source, source.vocabulary, texts, progress=progress)


def control(healing: Healing, num_steps: int, checkpoint: Path) -> dict[str, Any]:
    """Train the source and return what it became."""
    model, result = healing.train(num_steps, checkpoint)
    trained = replace(healing.source, model=model.eval())
    domain, general = (
        bits_per_byte(trained, text, progress=healing.progress)
        for text in (healing.texts.held_out, healing.texts.general)
    )
    return {
        "steps": result.num_steps,
        "seconds": result.seconds,
        "bits_per_byte": domain.bits_per_byte,
        "general_bits_per_byte": general.bits_per_byte,
        "curve": [(p.step, p.seconds, p.bits_per_byte) for p in result.curve],
    }


def certificate(config: MoveConfig, texts: Texts, done: dict[str, Any]) -> MoveResult:
    """Put the outcomes of all stages together."""
    before = figures_of(config.model, done["source figures"])
    after = figures_of("destination", done["destination figures"])
    is_taught = config.verb == "distill"
    compared = Control(**done["control"]) if "control" in done else None
    return MoveResult(
        **common_fields(done, texts.general_source),
        verb=config.verb,
        how=done["destination"]["how"],
        heal=config.heal,
        recipe=config.recipe,
        source=before,
        destination=after,
        teacher=figures_of(config.teacher, done["teacher figures"]) if is_taught else None,
        agreement=Agreement(**done["agreement"]),
        control=compared,
        gap_closed=gap_closed(done, compared),
        regressions=lost_bits(before, after, config.heal, GENERAL_LIMIT),
    )


def gap_closed(done: dict[str, Any], compared: Control | None) -> float | None:
    """Return the share of the zero-shot gap that healing closed, against the control."""
    if compared is None:
        return None
    start = done["transplant"]
    before = start["bits_per_byte"] - start["source_bits_per_byte"]
    after = done["destination figures"]["domain"]["bits_per_byte"] - compared.bits_per_byte
    return 1 - after / before if before > 0 else None
