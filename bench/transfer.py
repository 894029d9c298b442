"""Bench of the transfer room: initializers and healers on the starter model, in bits per byte.

python bench/transfer.py [--json] [--quick] [--only SECTION ...] [--hypernetwork DIR]

Sections: zero_shot, healing, extension, bytes, distillation, large. The source is the starter
model; the destination is a BPE vocabulary of the same size, learned on the part of Python's
standard library that the model never read; figures are of the held-out tenth of it. "gap" is bits
per byte of the destination minus that of the control: the source itself, trained for the same CPU
seconds on the same text. Times are CPU seconds of one thread. A section that was not run leaves its
rows without a measurement.
"""

import argparse
import copy
import json
import platform
import random
import resource
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch

from jeton.core.vocabulary import Vocabulary
from jeton.learn.registry import LEARNERS
from jeton.lm.bits import bits_per_byte
from jeton.lm.load import LanguageModel, load_model
from jeton.starter import general_text_path, library_bucket, library_files
from jeton.transfer.contract import HealInput
from jeton.transfer.registry import HEALERS, INITIALIZERS
from jeton.transfer.transplant import transplant

SCHEMA_VERSION = 1
SECTIONS = ("zero_shot", "healing", "extension", "bytes", "distillation", "large")
MARKS = (10.0, 60.0, 300.0)
HEALED = ("mean", "tokenadapt", "context_distillation")
clock = time.thread_time


@dataclass(frozen=True)
class Ground:
    """What all sections start from."""

    source: LanguageModel
    train: list[str]
    held_out: list[str]
    general: list[str]
    options: dict[str, dict[str, Any]]

    def bits(self, model: Any, vocabulary: Vocabulary, *, on_general: bool = False) -> float:
        """Bits per byte of a model on the held-out text."""
        lm = replace(self.source, model=model, vocabulary=vocabulary)
        texts = self.general if on_general else self.held_out
        return bits_per_byte(lm, texts, context=512).bits_per_byte


def make_ground(quick: bool, hypernetwork: str) -> Ground:
    """Load the starter model and cut the standard library."""
    files = {name: path.read_text(encoding="utf-8") for name, path in library_files().items()}
    train = [text for name, text in files.items() if library_bucket(name) >= 6]
    held_out = [text for name, text in files.items() if library_bucket(name) == 0]
    for texts in (train, held_out):
        random.Random(0).shuffle(texts)
    size = 15_000 if quick else 120_000
    general = general_text_path().read_text(encoding="utf-8")
    options: dict[str, dict[str, Any]] = {"zett": {"hypernetwork": hypernetwork}}
    if quick:
        options["context_distillation"] = {"start": "mean", "steps": 2}
    source = load_model("starter", dtype="float32")
    return Ground(source, train, _first(held_out, size), [general[:size]], options)


def _first(texts: Sequence[str], size: int) -> list[str]:
    """Return pieces of at most 10,000 characters, `size` of them in all."""
    pieces: list[str] = []
    for text in texts:
        left = size - sum(map(len, pieces))
        if left <= 0:
            break
        pieces.append(text[: min(left, 10_000)])
    return pieces


def fresh_vocabulary(ground: Ground) -> Vocabulary:
    """Learn a vocabulary of the source's size on the unread text."""
    learner = LEARNERS.create("bpe")
    base = ground.source.vocabulary
    vocabulary: Vocabulary = learner.learn(ground.train, base, base.vocab_size).vocabulary()
    return vocabulary


def zero_shot(ground: Ground, names: Sequence[str]) -> dict[str, Any]:
    """Bits per byte right after the transplant, by initializer."""
    source, destination = ground.source, fresh_vocabulary(ground)
    before = ground.bits(source.model, source.vocabulary)
    sample = tuple(_first(ground.train, 1_500_000))
    table: dict[str, dict[str, float]] = {}
    for name in names:
        start = clock()
        method = INITIALIZERS.create(name, ground.options.get(name))
        moved, _ = transplant(source.model, source.vocabulary, destination, method, texts=sample)
        seconds = clock() - start
        table[name] = {
            "bits_per_byte": ground.bits(moved, destination),
            "seconds": seconds,
        }
    reference = table["mean"]["bits_per_byte"] - before
    for row in table.values():
        row["share_of_fvt_gap"] = (row["bits_per_byte"] - before) / reference
    return {"source": before, "initializers": table}


@dataclass
class Marks:
    """A progress that measures the model when a CPU time is reached, and ends at the last one."""

    ground: Ground
    model: Any
    vocabulary: Vocabulary
    seconds: Sequence[float]
    on_general: bool = False
    found: dict[float, dict[str, float]] = field(default_factory=dict)
    steps: int = 0

    def track(self, items: Any, total: int | None, what: str, unit: str) -> Iterator[Any]:
        """Yield until the last mark."""
        left, used = list(self.seconds), 0.0
        for item in items:
            start = clock()
            yield item
            used += clock() - start
            self.steps += 1
            while left and used >= left[0]:
                self.found[left.pop(0)] = self.measure()
            if not left:
                return

    def measure(self) -> dict[str, float]:
        """Figures of the model as it stands."""
        figures = {"bits_per_byte": self.ground.bits(self.model, self.vocabulary)}
        if self.on_general:
            general = self.ground.bits(self.model, self.vocabulary, on_general=True)
            figures["general_bits_per_byte"] = general
        return figures

    def stage(self, what: str) -> None:
        """Say nothing."""


def healed(
    ground: Ground,
    model: Any,
    vocabulary: Vocabulary,
    healer: str,
    seconds: Sequence[float],
    *,
    options: dict[str, Any] | None = None,
    teacher: LanguageModel | None = None,
    replay: Sequence[str] = (),
    on_general: bool = False,
) -> dict[float, dict[str, float]]:
    """Figures after so many CPU seconds of healing; the learning rate falls towards the last."""
    end = vocabulary.eos_token_id
    ids = join(vocabulary, ground.train, end)
    method = HEALERS.create(healer, {"length": 256, "batch_tokens": 2048, **(options or {})})
    probe = copy.deepcopy(model)
    inputs = HealInput(
        model=probe,
        vocabulary=vocabulary,
        token_ids=ids,
        num_steps=2,
        teacher=None if teacher is None else teacher.model,
        teacher_vocabulary=None if teacher is None else teacher.vocabulary,
        replay_ids=join(vocabulary, replay, end) if replay else None,
    )
    method.heal(replace(inputs, num_steps=1))
    start = clock()
    method.heal(inputs)
    num_steps = max(2, int(max(seconds) / ((clock() - start) / 2)))
    trained = copy.deepcopy(model)
    marks = Marks(ground, trained, vocabulary, sorted(seconds), on_general)
    method.heal(replace(inputs, model=trained, num_steps=num_steps, progress=marks))
    for second in seconds:  # the last step may end a moment early
        if second not in marks.found:
            marks.found[second] = marks.measure()
    return marks.found


def join(vocabulary: Vocabulary, texts: Sequence[str], end: int | None) -> torch.Tensor:
    """Return the ids of all texts with an end-of-text between them."""
    ids: list[int] = []
    for encoded in vocabulary.encode_batch(texts):
        ids += [*encoded] if end is None else [end, *encoded]
    return torch.tensor(ids)


def healing(ground: Ground, inits: Sequence[str], healers: Sequence[str], marks: Any) -> Any:
    """Bits per byte by initializer, healer and CPU seconds, with the control beside them."""
    source, destination = ground.source, fresh_vocabulary(ground)
    sample = tuple(_first(ground.train, 1_500_000))
    control = healed(ground, source.model, source.vocabulary, "cross_entropy", marks)
    control[0.0] = {"bits_per_byte": ground.bits(source.model, source.vocabulary)}
    table: dict[str, Any] = {}
    for init in inits:
        method = INITIALIZERS.create(init, ground.options.get(init))
        moved, _ = transplant(source.model, source.vocabulary, destination, method, texts=sample)
        begun = {0.0: {"bits_per_byte": ground.bits(moved, destination)}}
        for healer in healers:
            found = healed(ground, moved, destination, healer, marks, teacher=source)
            table[f"{init} + {healer}"] = {**begun, **found}
    return {"control": control, "curves": table}


def extension(ground: Ground, seconds: float) -> dict[str, Any]:
    """A quarter more tokens of the user's domain: figures on the domain and on general text."""
    source = ground.source
    size = source.vocabulary.vocab_size * 5 // 4
    learned = LEARNERS.create("extend").learn(ground.train, source.vocabulary, size)
    destination = learned.vocabulary()
    method = INITIALIZERS.create("mean")
    moved, _ = transplant(source.model, source.vocabulary, destination, method)
    before = {
        "domain": ground.bits(source.model, source.vocabulary),
        "general": ground.bits(source.model, source.vocabulary, on_general=True),
    }
    found = healed(ground, moved, destination, "cross_entropy", [seconds], on_general=True)
    after = found[seconds]
    return {
        "num_new": learned.num_new,
        "source": before,
        "domain": after["bits_per_byte"],
        "general": after["general_bits_per_byte"],
    }


def byteification(ground: Ground, seconds: float) -> dict[str, float]:
    """The starter model moved onto bytes."""
    from jeton.transfer.byte_vocabulary import byte_vocabulary

    source = ground.source
    destination = byte_vocabulary(source.vocabulary)
    method = INITIALIZERS.create("mean")
    moved, _ = transplant(source.model, source.vocabulary, destination, method)
    before = ground.bits(source.model, source.vocabulary)
    options = {"length": 1024, "batch_tokens": 8192, "lr_body": 1e-3}
    found = healed(ground, moved, destination, "cross_entropy", [seconds], options=options)
    return {"source": before, "bytes": found[seconds]["bits_per_byte"]}


def distillation(ground: Ground, seconds: float) -> dict[str, float]:
    """The starter model teaches a small one that has another vocabulary."""
    teacher = ground.source
    draft = load_model("starter-draft", dtype="float32")
    destination = fresh_vocabulary(ground)
    method = INITIALIZERS.create("mean")
    student, _ = transplant(draft.model, draft.vocabulary, destination, method)
    found: dict[str, float] = {"start": ground.bits(student, destination)}
    for healer in ("cross_entropy", "alm", "uld"):
        figures = healed(ground, student, destination, healer, [seconds], teacher=teacher)
        found[healer] = figures[seconds]["bits_per_byte"]
    return found


def large(names: Sequence[str]) -> dict[str, dict[str, float]]:
    """Seconds and memory of a 128k x 4096 destination from a 32k x 4096 source of random rows."""
    import multiprocessing

    found = {}
    for name in names:
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            found[name] = pool.apply(_large_one, (name,))
    return found


def _large_one(name: str) -> dict[str, float]:
    torch.set_num_threads(1)
    source, destination = _numbered(32_000), _numbered(128_000)
    rows = torch.randn(32_000, 4096)
    from jeton.transfer.contract import InitInput

    start = clock()
    INITIALIZERS.create(name).initialize(InitInput(source, destination, rows, texts=("a b",)))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return {"seconds": clock() - start, "peak_bytes": peak}


def _numbered(size: int) -> Vocabulary:
    """Return a byte-level BPE vocabulary: the bytes, then pairs of earlier tokens at random."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers

    rng = random.Random(0)
    tokens = sorted(pre_tokenizers.ByteLevel.alphabet())
    seen, merges = set(tokens), []
    while len(tokens) < size:
        left, right = rng.choice(tokens[:4000]), rng.choice(tokens[:4000])
        if left + right not in seen and len(left + right) < 12:
            seen.add(left + right)
            tokens.append(left + right)
            merges.append((left, right))
    tokenizer = Tokenizer(models.BPE(vocab={t: i for i, t in enumerate(tokens)}, merges=merges))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    return Vocabulary.from_tokenizer_json(tokenizer.to_str())


def goal(
    name: str, wanted: float, measured: float | None, unit: str, *, at_least: bool = False
) -> dict[str, Any]:
    """One row of the goals."""
    holds = None
    if measured is not None:
        holds = measured >= wanted if at_least else measured <= wanted
    return {"name": name, "goal": wanted, "measured": measured, "unit": unit, "holds": holds}


def closed(found: dict[str, Any], mark: float) -> float | None:
    """Share of the zero-shot gap that the best curve has closed, against the control."""
    if mark not in found["control"]:
        return None
    control = {second: row["bits_per_byte"] for second, row in found["control"].items()}
    best = 0.0
    for curve in found["curves"].values():
        begun = curve[0.0]["bits_per_byte"] - control[0.0]
        left = curve[mark]["bits_per_byte"] - control[mark]
        best = max(best, 1 - left / begun)
    return best


def goals_of(found: dict[str, Any]) -> list[dict[str, Any]]:
    """One row per goal of the room."""
    shares = found.get("zero_shot", {}).get("initializers", {})
    best = min((row["share_of_fvt_gap"] for row in shares.values()), default=None)
    heal, ext = found.get("healing"), found.get("extension")
    byte, dist, big = found.get("bytes"), found.get("distillation"), found.get("large")
    return [
        goal("zero-shot gap of the best initializer, share of FVT's", 0.55, best, "share"),
        goal(
            "zero-shot gap closed after 300 CPU-s",
            0.95,
            closed(heal, 300.0) if heal else None,
            "share",
            at_least=True,
        ),
        goal(
            "zero-shot gap closed after 1800 CPU-s",
            0.99,
            closed(heal, 1800.0) if heal else None,
            "share",
            at_least=True,
        ),
        goal(
            "a quarter more tokens, 60 s: bits per byte on the domain",
            1.0,
            ext["domain"] / ext["source"]["domain"] if ext else None,
            "x source",
        ),
        goal(
            "a quarter more tokens, 60 s: bits per byte on general text",
            1.01,
            ext["general"] / ext["source"]["general"] if ext else None,
            "x source",
        ),
        goal(
            "byteification after 1800 CPU-s: bits per byte",
            1.1,
            byte["bytes"] / byte["source"] if byte else None,
            "x source",
        ),
        goal(
            "distillation across vocabularies: ALM against cross-entropy at equal seconds",
            1.0,
            dist["alm"] / dist["cross_entropy"] if dist else None,
            "x cross-entropy",
        ),
        goal(
            "distillation across vocabularies: ALM against ULD at equal seconds",
            1.0,
            dist["alm"] / dist["uld"] if dist else None,
            "x ULD",
        ),
        goal(
            "128k x 4096 from 32k x 4096, slowest initializer",
            120.0,
            max(row["seconds"] for row in big.values()) if big else None,
            "CPU-s",
        ),
        goal(
            "128k x 4096 from 32k x 4096, peak memory",
            8.0,
            max(row["peak_bytes"] for row in big.values()) / 1e9 if big else None,
            "GB",
        ),
    ]


def run(arguments: argparse.Namespace) -> dict[str, Any]:
    """Run the sections that were asked for."""
    torch.set_num_threads(1)
    quick = arguments.quick
    wanted = arguments.only or (["zero_shot"] if quick else list(SECTIONS))
    ground = make_ground(quick, arguments.hypernetwork)
    names = [n for n in INITIALIZERS.names() if n != "zett" or arguments.hypernetwork]
    found: dict[str, Any] = {}
    if "zero_shot" in wanted:
        some = ("mean", "random", "ridge", "context_distillation")
        found["zero_shot"] = zero_shot(ground, some if quick else ["mean", *names])
    if "healing" in wanted:
        inits = names if arguments.all_inits else HEALED
        marks = [float(second) for second in arguments.marks]
        found["healing"] = healing(ground, inits, ("cross_entropy", "alm"), marks)
    if "extension" in wanted:
        found["extension"] = extension(ground, 60.0)
    if "bytes" in wanted:
        found["bytes"] = byteification(ground, arguments.byte_seconds)
    if "distillation" in wanted:
        found["distillation"] = distillation(ground, arguments.distill_seconds)
    if "large" in wanted:
        found["large"] = large([n for n in names if n not in ("zett", "context_distillation")])
    return {
        "schema_version": SCHEMA_VERSION,
        "machine": f"{platform.machine()}, 1 thread, CPU time",
        "sections": wanted,
        **found,
        "goals": goals_of(found),
    }


def show(result: dict[str, Any]) -> None:
    """Print the result."""
    for section in SECTIONS:
        if section in result:
            print(f"{section}:\n{json.dumps(result[section], indent=2)}\n")
    for row in result["goals"]:
        if row["measured"] is None:
            print(f"  not run {row['name']}")
            continue
        mark = "holds " if row["holds"] else "MISSED"
        print(f"  {mark}  {row['name']}: {row['measured']:.3g} {row['unit']} ({row['goal']:g})")


def main() -> None:
    """Run the bench."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    parser.add_argument("--quick", action="store_true", help="end within a minute")
    parser.add_argument("--only", nargs="+", choices=SECTIONS, help="sections to run")
    parser.add_argument("--hypernetwork", default="", help="folder of a trained ZeTT network")
    parser.add_argument("--marks", nargs="+", default=MARKS, help="seconds of the healing curves")
    parser.add_argument("--all-inits", action="store_true", help="heal after every initializer")
    parser.add_argument("--byte-seconds", type=float, default=1800.0)
    parser.add_argument("--distill-seconds", type=float, default=300.0)
    arguments = parser.parse_args()
    result = run(arguments)
    if arguments.json:
        print(json.dumps(result, indent=2))
    else:
        show(result)


if __name__ == "__main__":
    main()
