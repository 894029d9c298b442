"""Schedule: several healers one after the other, each for a share of the steps.

Source: staged adaptation as in Minixhofer et al. 2025 (https://arxiv.org/abs/2503.20083, embeddings
first, then likelihood matching) and Mundra et al. 2024.
Differs from the source: any registered healers, any number of them; each has its own optimizer and
learning-rate schedule.
Cost: that of its parts.
"""

from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

from jeton.errors import ConfigError, CorruptRunError
from jeton.transfer.checkpoint import read_checkpoint, write_checkpoint
from jeton.transfer.contract import Healer, HealInput, HealPoint, HealResult
from jeton.transfer.training import TrainingOptions


@dataclass(frozen=True, slots=True)
class Schedule(TrainingOptions):
    """Options, those of `TrainingOptions`, which every part gets, and:

    Attributes:
        parts: Names of healers with their shares of the steps, in order. Shares are divided by
            their sum; one that is left out is 1.
    """

    parts: str = "embedding_ce:0.2,cross_entropy:0.8"

    def __post_init__(self) -> None:
        TrainingOptions.__post_init__(self)
        self.healers()

    @property
    def needs_teacher(self) -> bool:  # type: ignore[override]
        """Whether a part distils."""
        return any(healer.needs_teacher for healer in self.healers())

    def healers(self) -> list[Healer]:
        """Return the parts, with the options that they share."""
        from jeton.transfer.registry import HEALERS

        shared = {f.name: getattr(self, f.name) for f in fields(TrainingOptions)}
        given = {
            n: v for n, v in shared.items() if v != TrainingOptions.__dataclass_fields__[n].default
        }
        return [HEALERS.create(name, given) for name, _ in parse_shares(self.parts)]

    def heal(self, inputs: HealInput) -> HealResult:
        """Train `inputs.model` in place, part by part; see `Healer.heal`."""
        _claim(inputs, {"options": asdict(self), "num_steps": inputs.num_steps})
        shares = [share for _, share in parse_shares(self.parts)]
        total = HealResult(0, 0, 0, 0.0, [])
        for index, healer in enumerate(self.healers()):
            stop = round(sum(shares[: index + 1]) * inputs.num_steps)
            num_steps = stop - total.num_steps
            if num_steps < 1:
                continue
            checkpoint = _part_file(inputs.checkpoint, index)
            part = replace(
                inputs, num_steps=num_steps, checkpoint=checkpoint, seed=inputs.seed + index
            )
            total = _joined(total, healer.heal(part))
        return total


def parse_shares(text: str) -> list[tuple[str, float]]:
    """Return names with shares that sum to one.

    Example:
        >>> parse_shares("embedding_ce:1,alm:3")
        [('embedding_ce', 0.25), ('alm', 0.75)]
    """
    parts = []
    for item in text.split(","):
        name, _, share = item.strip().partition(":")
        try:
            parts.append((name, float(share) if share else 1.0))
        except ValueError:
            raise ConfigError(f"{item!r} is not NAME:SHARE") from None
    total = sum(share for _, share in parts)
    if any(not name or share <= 0 or name == "schedule" for name, share in parts):
        raise ConfigError(
            f"parts must name other healers with shares above 0, got {text!r}",
            hint="for example --set schedule.parts=embedding_ce:0.2,alm:0.8",
        )
    return [(name, share / total) for name, share in parts]


def _joined(before: HealResult, part: HealResult) -> HealResult:
    """Return both parts as one run."""
    later = [
        HealPoint(p.step + before.num_steps, p.seconds + before.seconds, p.bits_per_byte)
        for p in part.curve
    ]
    return HealResult(
        before.num_steps + part.num_steps,
        before.num_tokens + part.num_tokens,
        before.num_bytes + part.num_bytes,
        before.seconds + part.seconds,
        [*before.curve, *later],
    )


def _part_file(path: Path | None, index: int) -> Path | None:
    return None if path is None else path.with_name(f"{path.name}.{index}")


def _claim(inputs: HealInput, fingerprint: dict[str, Any]) -> None:
    """Write what this run is, or check that it is the run that was begun."""
    path = inputs.checkpoint
    if path is None:
        return
    fingerprint["options"].pop("checkpoint_s")
    if not path.is_file():
        write_checkpoint({"schedule": fingerprint}, path)
    elif read_checkpoint(path).get("schedule") != fingerprint:
        raise CorruptRunError(
            f"{path} belongs to a healing run with other options",
            hint="start again with another --out",
        )
