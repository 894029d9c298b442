"""Try what applies to a model, a machine and a workload, and choose the fastest."""

import json
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median

from jeton.core.registry import Registry
from jeton.decoding.create import create_drafter
from jeton.decoding.prompt import prompt_ids
from jeton.decoding.registry import DRAFTERS
from jeton.decoding.replay import ReplayFigures, replay
from jeton.decoding.weights import own_folder
from jeton.errors import ConfigError, InputError
from jeton.lm.cost import CostTable, measure_cost
from jeton.lm.load import LanguageModel
from jeton.lm.runner import Runner

SCHEMA_VERSION = 1
LENGTHS = (4, 8, 16)


@dataclass(frozen=True, slots=True)
class TuningRow:
    """One way of decoding on the workload.

    Attributes:
        drafter: Name, "none" for plain decoding.
        num_draft_tokens: Most nodes per draft.
        bytes_per_second: Median over the rounds.
        ratio: To plain decoding, median of the rounds' ratios.
        tokens_per_step: Of the last round.
        acceptance_rate: Accepted over proposed tokens.
    """

    drafter: str
    num_draft_tokens: int
    bytes_per_second: float
    ratio: float
    tokens_per_step: float
    acceptance_rate: float


@dataclass(frozen=True, slots=True)
class Tuning:
    """What was tried, fastest first; the first row is the choice.

    Attributes:
        model: Name.
        machine: Device and threads.
        dtype: Of the model.
        num_texts: Of the workload.
        rows: Fastest first.
        schema_version: Of the file.
    """

    model: str
    machine: str
    dtype: str
    num_texts: int
    rows: tuple[TuningRow, ...]
    schema_version: int = SCHEMA_VERSION

    @property
    def best(self) -> TuningRow:
        """The fastest row; plain decoding when no drafter is faster."""
        return self.rows[0]

    def save(self, path: str | Path) -> None:
        """Write one JSON file, whole or not at all."""
        target = Path(path)
        unfinished = target.with_name(f"{target.name}.{os.getpid()}.tmp")
        unfinished.write_text(json.dumps(asdict(self), indent=1) + "\n", encoding="utf-8")
        unfinished.replace(target)

    @classmethod
    def load(cls, path: str | Path) -> "Tuning":
        """Read a file that `save` wrote.

        Raises:
            InputError: it is missing, or no such file.
        """
        try:
            document = json.loads(Path(path).read_text(encoding="utf-8"))
            rows = tuple(TuningRow(**row) for row in document.pop("rows"))
            found = cls(rows=rows, **document)
        except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
            raise InputError(
                f"{path} is no tuning file: {error}", hint="write one with jeton.decoding.tune"
            ) from error
        if found.schema_version != SCHEMA_VERSION or not rows:
            raise InputError(f"{path} is of another version of jeton", hint="tune again")
        return found


def applicable(lm: LanguageModel, *, has_draft_model: bool, registry: Registry) -> list[str]:
    """Return the drafters that this model can use without further files."""
    takes_trees = Runner(lm.model).supports_trees
    names = []
    for name in registry.names():
        drafter = registry.load(name)
        needs_model = "draft_model" in drafter.needs  # type: ignore[attr-defined]
        fits = takes_trees or not drafter.makes_trees  # type: ignore[attr-defined]
        if "weights" in drafter.needs and own_folder(lm.model, name) is None:  # type: ignore[attr-defined]
            continue
        if fits and (has_draft_model or not needs_model) and name != "rest":
            names.append(name)
    return names


def tune(
    lm: LanguageModel,
    texts: Sequence[str],
    *,
    drafters: Sequence[str] | None = None,
    lengths: Sequence[int] = LENGTHS,
    draft_model: LanguageModel | None = None,
    num_decoded_tokens: int = 128,
    rounds: int = 3,
    cost: CostTable | None = None,
    clock: Callable[[], float] = time.perf_counter,
) -> Tuning:
    """Decode recorded texts in every way, round by round, and rank the ways by speed.

    The texts are forced (see `replay`), so that a model that loops cannot flatter a drafter.

    Args:
        lm: The target.
        texts: Of the kind that will be generated, each with its prompt in front; the last
            `num_decoded_tokens` tokens are decoded, at most the second half.
        drafters: Names; None tries all that apply.
        lengths: Values of `num_draft_tokens` to try.
        draft_model: For drafters that need one.
        num_decoded_tokens: Per text.
        rounds: Times that everything is repeated, interleaved.
        cost: None measures it.
        clock: Seconds.
    Raises:
        ConfigError: no text has two tokens or more, or a number is below 1.
    """
    if rounds < 1 or num_decoded_tokens < 1 or not lengths or min(lengths) < 1:
        raise ConfigError("rounds, num_decoded_tokens and lengths must be 1 or more")
    recordings = [prompt_ids(lm, text)[: lm.max_length] for text in texts]
    recordings = [ids for ids in recordings if len(ids) > 2]
    if not recordings:
        raise ConfigError("there is no text of three tokens or more to tune on")
    runner = Runner(lm.model)
    cost = cost or measure_cost(runner, clock=clock)
    names = drafters
    if names is None:
        names = applicable(lm, has_draft_model=draft_model is not None, registry=DRAFTERS)
    ways = [("none", 0), *((name, length) for name in names for length in lengths)]
    speeds: dict[tuple[str, int], list[float]] = {way: [] for way in ways}
    last: dict[tuple[str, int], ReplayFigures] = {}
    for _ in range(rounds):
        for way in ways:
            name, length = way
            drafter = None if name == "none" else create_drafter(name)
            figures = []
            for ids in recordings:
                num_prompt = max(len(ids) // 2, len(ids) - num_decoded_tokens)
                figures.append(
                    replay(
                        lm,
                        ids,
                        num_prompt_tokens=num_prompt,
                        drafter=drafter,
                        num_draft_tokens=length,
                        runner=runner,
                        draft_model=draft_model,
                        cost=cost,
                        clock=clock,
                    )
                )
            last[way] = total(figures)
            speeds[way].append(last[way].bytes_per_second)
    plain = speeds["none", 0]
    rows = [
        TuningRow(
            name,
            length,
            median(speeds[name, length]),
            median(s / p if p else 0.0 for s, p in zip(speeds[name, length], plain, strict=True)),
            last[name, length].tokens_per_step,
            last[name, length].acceptance_rate,
        )
        for name, length in ways
    ]
    rows.sort(key=lambda row: (-row.ratio, row.drafter, row.num_draft_tokens))
    return Tuning(lm.name, cost.machine, cost.dtype, len(recordings), tuple(rows))


def total(figures: Sequence[ReplayFigures]) -> ReplayFigures:
    """Return the figures of several texts as those of one."""
    num_tokens = sum(f.num_tokens for f in figures)
    num_steps = sum(f.num_steps for f in figures)
    return ReplayFigures(
        num_bytes=sum(f.num_bytes for f in figures),
        num_tokens=num_tokens,
        num_steps=num_steps,
        seconds=sum(f.seconds for f in figures),
        tokens_per_step=num_tokens / max(1, num_steps),
        acceptance_rate=sum(f.acceptance_rate for f in figures) / max(1, len(figures)),
    )
