"""The sections of the bench of the transfer room; each returns its table."""

import copy
import multiprocessing
import random
import resource
import statistics
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch

from jeton.core.vocabulary import Vocabulary
from jeton.learn.registry import LEARNERS
from jeton.lm.load import LanguageModel, load_model
from jeton.retrofit.moves.destination import byte_vocabulary
from jeton.transfer.contract import HealInput, InitInput, InitResult
from jeton.transfer.registry import HEALERS, INITIALIZERS
from jeton.transfer.transplant import transplant, with_rows
from transfer_ground import Cell, Cells, Ground, clock, first, join

HEALING = {"length": 256, "batch_tokens": 512, "micro_tokens": 512}
# The source is at home in its vocabulary: rates that suit the others cost it 0.05 bits per byte.
CONTROL = {**HEALING, "lr_embeddings": 1e-3, "lr_body": 1e-4}
BYTES = {"length": 1024, "batch_tokens": 2048, "micro_tokens": 2048}  # all positions it has
# Where the new rows are good from the start, lower rates heal further (docs/log.md).
GENTLE = {"lr_embeddings": 3e-3, "lr_body": 3e-4}
STARTS_WELL = ("context_distillation", "zett")
EXTENSION = {**HEALING, **GENTLE, "replay": 0.5}
PROBE_STEPS = 8
DISTILLERS = ("cross_entropy", "alm", "uld", "gold")
SCARCE = 150_000  # characters of text, read many times
SCARCE_SECONDS = 50.0
STOPPED_EARLY = 10.0  # where cross-entropy on so little text is best


@dataclass
class StepClock:
    """A progress that notes the CPU seconds of each step."""

    seconds: list[float] = field(default_factory=list)

    def track(self, items: Any, total: int | None, what: str, unit: str) -> Iterator[Any]:
        """Yield everything."""
        for item in items:
            start = clock()
            yield item
            self.seconds.append(clock() - start)

    def stage(self, what: str) -> None:
        """Say nothing."""


@dataclass(frozen=True)
class Move:
    """A model to heal for a number of seconds, and what it is measured on."""

    name: str
    model: Callable[[], Any]
    vocabulary: Vocabulary
    token_ids: Callable[[], torch.Tensor]
    teacher: LanguageModel | None = None
    replay_ids: torch.Tensor | None = None
    on_general: bool = False
    context: int = 512

    def inputs(self, num_steps: int, **more: Any) -> HealInput:
        """Return what a healer gets; it trains a copy of the model."""
        return HealInput(
            model=copy.deepcopy(self.model()),
            vocabulary=self.vocabulary,
            token_ids=self.token_ids(),
            num_steps=num_steps,
            teacher=None if self.teacher is None else self.teacher.model,
            teacher_vocabulary=None if self.teacher is None else self.teacher.vocabulary,
            replay_ids=self.replay_ids,
            **more,
        )

    def heal(
        self, cells: Cells, ground: Ground, healer: str, seconds: float, options: dict[str, Any]
    ) -> Cell | None:
        """Return figures after so many CPU seconds: a run of its own, whose learning rate ends."""
        of = self.name.split("/")[0].replace("control", "healing")  # models of one size
        kind = f"speed/{of}/{healer}"
        name = f"{self.name}/{healer}/{seconds:g}"

        def measure() -> Cell:
            speed = cells.get(kind, lambda: {"seconds_per_step": self._speed(healer, options)})
            assert speed is not None
            num_steps = max(2, int(seconds / speed["seconds_per_step"]))
            steps = StepClock()
            inputs = self.inputs(num_steps, progress=steps, checkpoint=cells.folder(name))
            HEALERS.create(healer, options).heal(inputs)
            used = statistics.fmean(steps.seconds or [0.0]) * num_steps
            if inputs.checkpoint is not None:
                for file in inputs.checkpoint.parent.glob(inputs.checkpoint.name + "*"):
                    file.unlink()
            cell = {
                "bits_per_byte": ground.bits(inputs.model, self.vocabulary, context=self.context),
                "steps": num_steps,
                "cpu_seconds": used,
            }
            if self.on_general:
                cell["general_bits_per_byte"] = ground.bits(
                    inputs.model, self.vocabulary, on_general=True
                )
            return cell

        return cells.get(name, measure)

    def _speed(self, healer: str, options: dict[str, Any]) -> float:
        """Return the median CPU seconds of a step that trains everything."""
        method = HEALERS.create(healer, options)
        if hasattr(method, "embeddings_only"):
            method = replace(method, embeddings_only=0.0)
        steps = StepClock()
        method.heal(self.inputs(PROBE_STEPS, progress=steps))
        return statistics.median(steps.seconds[1:])


def zero_shot(cells: Cells, ground: Ground, names: Sequence[str]) -> dict[str, Any]:
    """Bits per byte right after the transplant, by initializer."""
    before = cells.get("source", lambda: {"bits_per_byte": bits_of_source(ground)})
    table: dict[str, Cell] = {}
    for name in names:

        def measure(name: str = name) -> Cell:
            model, seconds = moved(cells, ground, name)
            bits = ground.bits(model, ground.fresh_vocabulary())
            return {"bits_per_byte": bits, "cpu_seconds": seconds}

        cell = cells.get(f"zero_shot/{name}", measure)
        if cell is not None:
            table[name] = dict(cell)
    if before is None or "mean" not in table:
        return {"initializers": table}
    floor = before["bits_per_byte"]
    reference = table["mean"]["bits_per_byte"] - floor
    for row in table.values():
        row["share_of_fvt_gap"] = (row["bits_per_byte"] - floor) / reference
    tokens = cells.get("bytes_per_token", lambda: compression(ground))
    return {"source": floor, "bytes_per_token": tokens, "initializers": table}


def bits_of_source(ground: Ground) -> float:
    """Bits per byte of the source on the held-out text."""
    return ground.bits(ground.source.model, ground.source.vocabulary)


def compression(ground: Ground) -> Cell:
    """Bytes that a token of the held-out text stands for on average."""
    num_bytes = sum(len(text.encode()) for text in ground.held_out)
    both = {"source": ground.source.vocabulary, "destination": ground.fresh_vocabulary()}
    return {
        name: num_bytes / sum(map(len, vocabulary.encode_batch(ground.held_out)))
        for name, vocabulary in both.items()
    }


def moved(cells: Cells, ground: Ground, name: str) -> tuple[Any, float]:
    """Return the model on the fresh vocabulary, and the CPU seconds that the initializer took."""
    source, destination = ground.source, ground.fresh_vocabulary()
    file = cells.folder(f"rows-{name}.pt")
    if file is not None and file.is_file():
        kept = torch.load(file, weights_only=True)
        rows = InitResult(kept["input_embeddings"], None, None, 0, 0, 0)
        model = with_rows(source.model, rows)
        model.config.eos_token_id = destination.eos_token_id
        return model, kept["seconds"]
    method = INITIALIZERS.create(name, ground.options.get(name))
    start = clock()
    model, result = transplant(
        source.model, source.vocabulary, destination, method, texts=ground.sample()
    )
    seconds = clock() - start
    if file is not None:
        torch.save({"input_embeddings": result.input_embeddings, "seconds": seconds}, file)
    return model, seconds


def healing(
    cells: Cells, ground: Ground, grid: Sequence[tuple[str, str, float]], compiled: bool
) -> dict[str, Any]:
    """Bits per byte by initializer, healer and CPU seconds, with the control at each of them."""
    source = ground.source
    of_control, of_healers = ({**o, "compile": compiled} for o in (CONTROL, HEALING))
    table: dict[str, dict[str, Cell]] = {}
    control: dict[str, Cell] = {}
    for name, cell in cells.found.items():
        kind, *what = name.split("/")
        if kind == "control":
            control[what[1]] = cell
        elif kind == "healing":
            table.setdefault(f"{what[0]} + {what[1]}", {})[what[2]] = cell
    for init, healer, seconds in grid:
        row = control if init == "control" else table.setdefault(f"{init} + {healer}", {})
        destination = source.vocabulary if init == "control" else ground.fresh_vocabulary()
        if init == "control":
            move = Move(
                "control",
                lambda: source.model,
                destination,
                lambda: ground.token_ids("source", source.vocabulary, ground.train),
            )
        else:
            move = Move(
                f"healing/{init}",
                lambda init=init: moved(cells, ground, init)[0],
                destination,
                lambda: ground.token_ids("fresh", ground.fresh_vocabulary(), ground.train),
                teacher=source,
            )
        options = of_control if init == "control" else of_healers
        if init in STARTS_WELL:
            options = {**options, **GENTLE}
        healed = move.heal(cells, ground, healer, seconds, options)
        if healed is not None:
            row[f"{seconds:g}"] = healed
    return {"control": control, "curves": table}


def extension(cells: Cells, ground: Ground, seconds: float) -> dict[str, Any]:
    """A quarter more tokens of the user's domain: figures on the domain and on general text."""
    source = ground.source
    size = source.vocabulary.vocab_size * 5 // 4

    def learned() -> Vocabulary:
        learner = LEARNERS.create("extend")
        made: Vocabulary = learner.learn(ground.train, source.vocabulary, size).vocabulary()
        return made

    def measure_source() -> Cell:
        return {
            "bits_per_byte": bits_of_source(ground),
            "general_bits_per_byte": ground.bits(source.model, source.vocabulary, on_general=True),
        }

    before = cells.get("extension/source", measure_source)
    if cells.is_reading and f"extension/cross_entropy/{seconds:g}" not in cells.found:
        return {"source": before, "grown": None}
    grown = ground.once("grown", learned)
    move = Move(
        "extension",
        lambda: transplant(source.model, source.vocabulary, grown, INITIALIZERS.create("zett"))[0],
        grown,
        lambda: ground.token_ids("grown", grown, ground.train),
        replay_ids=ground.token_ids("grown replay", grown, ground.replay),
        on_general=True,
    )
    after = move.heal(cells, ground, "cross_entropy", seconds, EXTENSION)
    return {"source": before, "grown": after}


def byteification(cells: Cells, ground: Ground, seconds: float) -> dict[str, Any]:
    """The starter model moved onto bytes."""
    source = ground.source
    destination = byte_vocabulary(source.vocabulary).vocabulary()
    move = Move(
        "bytes",
        lambda: transplant(
            source.model, source.vocabulary, destination, INITIALIZERS.create("mean")
        )[0],
        destination,
        lambda: ground.token_ids("bytes", destination, ground.train),
        context=1024,  # tokens of one byte: still less text than the source sees
    )
    before = cells.get("source", lambda: {"bits_per_byte": bits_of_source(ground)})
    return {"source": before, "bytes": move.heal(cells, ground, "cross_entropy", seconds, BYTES)}


def distillation(cells: Cells, ground: Ground, seconds: float) -> dict[str, Any]:
    """The starter model teaches a small one that has another vocabulary."""
    destination = ground.fresh_vocabulary()
    draft = load_model("starter-draft", dtype="float32")

    def student() -> Any:
        method = INITIALIZERS.create("mean")
        return transplant(draft.model, draft.vocabulary, destination, method)[0]

    start = cells.get(
        "distillation/start", lambda: {"bits_per_byte": ground.bits(student(), destination)}
    )
    found = {"start": start}
    plenty = Move(
        "distillation",
        student,
        destination,
        lambda: ground.token_ids("fresh", destination, ground.train),
        teacher=ground.source,
    )
    little = replace(
        plenty,
        name="distillation/scarce",
        token_ids=lambda: join(destination, first(ground.train, SCARCE)),
    )
    for healer in DISTILLERS:
        found[healer] = plenty.heal(cells, ground, healer, seconds, HEALING)
    for healer in DISTILLERS:
        found[f"scarce {healer}"] = little.heal(cells, ground, healer, SCARCE_SECONDS, HEALING)
    stopped = little.heal(cells, ground, "cross_entropy", STOPPED_EARLY, HEALING)
    found["scarce cross_entropy, stopped early"] = stopped
    return found


def large(cells: Cells, names: Sequence[str]) -> dict[str, Any]:
    """Seconds and memory of a 128k x 4096 destination from a 32k x 4096 source of random rows."""
    found = {}
    for name in names:
        found[name] = cells.get(f"large/{name}", lambda name=name: _in_own_process(name))
    return {name: cell for name, cell in found.items() if cell is not None}


def _in_own_process(name: str) -> Cell:
    """Measure in a process of its own, whose peak memory is this initializer's alone."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(_large_one, (name,))


def _large_one(name: str) -> Cell:
    torch.set_num_threads(1)
    source, destination = _numbered(32_000), _numbered(128_000)
    rng = random.Random(1)
    words = [token.decode() for token in destination.tokens if token.isascii()]
    texts = tuple("".join(rng.choices(words, k=2000)) for _ in range(200))
    rows = torch.randn(32_000, 4096)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    start = clock()
    INITIALIZERS.create(name).initialize(InitInput(source, destination, rows, texts=texts))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return {"cpu_seconds": clock() - start, "peak_bytes": peak, "bytes_before": before}


def _numbered(size: int) -> Vocabulary:
    """Return a byte-level BPE vocabulary: the bytes, then pairs of ASCII tokens at random."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers

    rng = random.Random(0)
    tokens = sorted(pre_tokenizers.ByteLevel.alphabet())
    seen, merges = set(tokens), []
    parts = [token for token in tokens if token.isascii()]
    while len(tokens) < size:
        left, right = rng.choice(parts), rng.choice(parts)
        if left + right not in seen and len(left + right) < 12:
            seen.add(left + right)
            tokens.append(left + right)
            merges.append((left, right))
            if len(parts) < 4000:
                parts.append(left + right)
    tokenizer = Tokenizer(models.BPE(vocab={t: i for i, t in enumerate(tokens)}, merges=merges))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    return Vocabulary.from_tokenizer_json(tokenizer.to_str())
