"""Try what applies to a model, a machine and a workload, and choose the fastest."""

import json
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median

from jeton.core.progress import NO_PROGRESS, Progress
from jeton.core.registry import Registry
from jeton.decoding.create import create_drafter
from jeton.decoding.registry import DRAFTERS
from jeton.decoding.replay import ReplayFigures, replay
from jeton.decoding.weights import own_folder
from jeton.decoding.workload import Item, Recording, record
from jeton.errors import ConfigError, InputError
from jeton.lm.cost import CostTable, measure_cost
from jeton.lm.load import LanguageModel
from jeton.lm.runner import Runner

SCHEMA_VERSION = 2
LENGTHS = (8, 16)
PAIRS = ("lookahead+token_recycling",)  # merged drafts that are tried where both apply
FILE_NAME = "jeton-decoding.json"  # beside a model, where `generate` looks for it

_BEHIND = 0.85  # of the best: what is slower after a round is not run again


@dataclass(frozen=True, slots=True)
class TuningRow:
    """One way of decoding on the workload.

    Attributes:
        drafter: Name, "none" for plain decoding.
        num_draft_tokens: Most nodes per draft.
        bytes_per_second: Median over the rounds.
        ratio: To plain decoding, median of the rounds' ratios.
        num_rounds: Rounds that it stayed in; what falls far behind is dropped.
        tokens_per_step: Of the last round.
        acceptance_rate: Accepted over proposed tokens.
    """

    drafter: str
    num_draft_tokens: int
    bytes_per_second: float
    ratio: float
    num_rounds: int
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
        cost: Of the model's forwards, by which drafts are cut.
        draft_model: Name or folder; empty when none was given.
        store: Path of the datastore; empty when none was given.
        schema_version: Of the file.
    """

    model: str
    machine: str
    dtype: str
    num_texts: int
    rows: tuple[TuningRow, ...]
    cost: CostTable
    draft_model: str = ""
    store: str = ""
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
            if document.get("schema_version") != SCHEMA_VERSION:
                raise ValueError("it is of another version of jeton")
            rows = tuple(TuningRow(**row) for row in document.pop("rows"))
            found = cls(rows=rows, cost=CostTable(**document.pop("cost")), **document)
        except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
            raise InputError(
                f"{path} is no tuning file: {error}", hint="write one with jeton tune-decoding"
            ) from error
        if not rows:
            raise InputError(f"{path} has no rows", hint="tune again")
        return found


def applicable(
    lm: LanguageModel,
    *,
    has_draft_model: bool,
    registry: Registry,
    has_store: bool = False,
    shares_vocabulary: bool = True,
) -> list[str]:
    """Return the drafters that this model can use with what was given."""
    takes_trees = Runner(lm.model).supports_trees
    names = []
    for name in registry.names():
        drafter = registry.load(name)
        needs = drafter.needs  # type: ignore[attr-defined]
        fits = takes_trees or not drafter.makes_trees  # type: ignore[attr-defined]
        lacks_weights = "weights" in needs and own_folder(lm.model, name) is None
        lacks_model = "draft_model" in needs and not (has_draft_model and shares_vocabulary)
        lacks_model |= "any_draft_model" in needs and not has_draft_model
        lacks_store = name == "rest" and not has_store
        if fits and not (lacks_weights or lacks_model or lacks_store) and name != "merge":
            names.append(name)
    return [*names, *(pair for pair in PAIRS if {*pair.split("+")} <= {*names})]


def tune(
    lm: LanguageModel,
    texts: Sequence[str | Recording],
    *,
    drafters: Sequence[str] | None = None,
    lengths: Sequence[int] = LENGTHS,
    draft_model: LanguageModel | None = None,
    store: str = "",
    num_decoded_tokens: int = 128,
    rounds: int = 3,
    cost: CostTable | None = None,
    clock: Callable[[], float] = time.perf_counter,
    progress: Progress = NO_PROGRESS,
) -> Tuning:
    """Decode recorded texts in every way, round by round, and rank the ways by speed.

    The texts are forced (see `replay`), so that a model that loops cannot flatter a drafter. After
    a round, ways that fall behind the best are dropped; plain decoding never is.

    Args:
        lm: The target.
        texts: Of the kind that will be generated, each with its prompt in front, of which the
            last `num_decoded_tokens` tokens are decoded, at most the second half; or recordings.
        drafters: Names; None tries all that apply.
        lengths: Values of `num_draft_tokens` to try.
        draft_model: For drafters that need one.
        store: Path of a datastore, for drafters that read one.
        num_decoded_tokens: Per text.
        rounds: Times that everything is repeated, interleaved.
        cost: None measures it.
        clock: Seconds.
        progress: Bars.
    Raises:
        ConfigError: no text has three tokens or more, or a number is below 1.
    """
    if rounds < 1 or num_decoded_tokens < 1 or not lengths or min(lengths) < 1:
        raise ConfigError("rounds, num_decoded_tokens and lengths must be 1 or more")
    items = [Item("", text) for text in texts if isinstance(text, str)]
    recordings = [text for text in texts if isinstance(text, Recording)]
    if items or not recordings:
        recordings += record(lm, items, num_decoded_tokens=num_decoded_tokens)
    runner = Runner(lm.model)
    cost = cost or measure_cost(runner, clock=clock)
    if drafters is None:
        draft_tokens = draft_model.vocabulary.tokens if draft_model is not None else []
        drafters = applicable(
            lm,
            has_draft_model=draft_model is not None,
            registry=DRAFTERS,
            has_store=bool(store),
            shares_vocabulary=draft_tokens == lm.vocabulary.tokens,
        )
    trial = _Trial(lm, recordings, runner, draft_model, store, cost, clock)
    ways = [_PLAIN, *((name, length) for name in drafters for length in lengths)]
    found: dict[_Way, list[ReplayFigures]] = {way: [] for way in ways}
    for turn in range(rounds):
        for way in progress.track(ways, len(ways), f"round {turn + 1} of {rounds}", "way"):
            found[way].append(trial.run(way))
        best = max(found[way][-1].bytes_per_second for way in ways)
        ways = [w for w in ways if w == _PLAIN or _keeps_up(found[w][-1], best)]
    rows = [_row(way, figures, found[_PLAIN]) for way, figures in found.items()]
    rows.sort(key=lambda row: (-row.ratio, row.drafter, row.num_draft_tokens))
    name = draft_model.name if draft_model is not None else ""
    return Tuning(
        lm.name, cost.machine, cost.dtype, len(recordings), tuple(rows), cost, name, store
    )


_Way = tuple[str, int]
_PLAIN: _Way = ("none", 0)


@dataclass(frozen=True, slots=True)
class _Trial:
    """What every way has in common."""

    lm: LanguageModel
    recordings: Sequence[Recording]
    runner: Runner
    draft_model: LanguageModel | None
    store: str
    cost: CostTable
    clock: Callable[[], float]

    def run(self, way: _Way) -> ReplayFigures:
        """Decode all recordings in one way."""
        name, length = way
        needs_store = self.store and "rest" in name.split("+")
        options = {"store": self.store} if needs_store else {}
        drafter = None if way == _PLAIN else create_drafter(name, options, cost=self.cost)
        return total(
            [
                replay(
                    self.lm,
                    recording.token_ids,
                    num_prompt_tokens=recording.num_prompt_tokens,
                    drafter=drafter,
                    num_draft_tokens=length,
                    runner=self.runner,
                    draft_model=self.draft_model,
                    cost=self.cost,
                    clock=self.clock,
                )
                for recording in self.recordings
            ]
        )


def _keeps_up(figures: ReplayFigures, best: float) -> bool:
    return figures.bytes_per_second >= _BEHIND * best


def _row(way: _Way, figures: Sequence[ReplayFigures], plain: Sequence[ReplayFigures]) -> TuningRow:
    """Return the row of a way; ratios are taken within a round."""
    pairs = [(a.bytes_per_second, b.bytes_per_second) for a, b in zip(figures, plain, strict=False)]
    return TuningRow(
        *way,
        median(speed for speed, _ in pairs),
        median(speed / base if base else 0.0 for speed, base in pairs),
        len(pairs),
        figures[-1].tokens_per_step,
        figures[-1].acceptance_rate,
    )


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
