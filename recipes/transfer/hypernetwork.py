"""The hypernetwork of the starter model: its text, its training, and what it is worth.

    python recipes/transfer/hypernetwork.py train --data FOLDER --out NET
    python recipes/transfer/hypernetwork.py measure --network NET --data FOLDER [--tokenizer DIR]

`train` (38 minutes on a shared core; a killed run continues) reads what the starter model read:
buckets 1 to 5 of the standard library, and the English books of `FOLDER/corpora/en` but the two
that stay held out. Without --data it reads the library alone. It writes NET in float32, and
NET/half, as the package ships it, in float16.

`measure` prints JSON lines: bits per byte on Python (bucket 0) and English (a held-out book, with
--data), right after the move and after CPU-seconds of healing, onto vocabularies that the training
never saw: a BPE learned on buckets 6 to 9, and each --tokenizer; and of a fine-tune of the starter
model, which the same network serves.
"""

import argparse
import copy
import json
import random
import time
from dataclasses import replace
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

from jeton.core.vocabulary import load_vocabulary
from jeton.learn.registry import LEARNERS
from jeton.lm.bits import bits_per_byte
from jeton.lm.load import load_model
from jeton.starter import library_bucket, library_files
from jeton.transfer.contract import HealInput
from jeton.transfer.registry import HEALERS, INITIALIZERS
from jeton.transfer.transplant import transplant
from jeton.transfer.zett_training import ZettTraining, train_hypernetwork

HELD_OUT_BOOKS = ("botchan.txt", "carroll-alice.txt")
BOOK_CHARACTERS, PIECE = 800_000, 20_000  # of a book at most; of a document
INITIALIZERS_MEASURED = ("mean", "ridge", "wechsel", "focus", "tokenadapt")
MARKS = (10.0, 60.0)  # CPU-seconds of healing


def python_texts(buckets):
    """Return the files of the standard library in these buckets."""
    files = library_files().items()
    return [p.read_text(encoding="utf-8") for n, p in files if library_bucket(n) in buckets]


def training_texts(data):
    """Return documents of text that the starter model was trained on."""
    texts = python_texts(range(1, 6))
    for path in sorted((data / "corpora/en").rglob("*.txt")) if data else []:
        if path.name not in HELD_OUT_BOOKS:
            book = path.read_text(encoding="utf-8")[:BOOK_CHARACTERS]
            texts += [book[start : start + PIECE] for start in range(0, len(book), PIECE)]
    return texts


def train(arguments):
    """Train the network."""
    source = load_model("starter", dtype="float32")
    arguments.out.mkdir(parents=True, exist_ok=True)
    network, result = train_hypernetwork(
        source.model,
        source.vocabulary,
        training_texts(arguments.data),
        ZettTraining(steps=arguments.steps),
        checkpoint=arguments.out / "training.pt",
    )
    network.save(arguments.out, {"model": "starter", "steps": result.steps})
    half = arguments.out / "half"
    network.save(half, {"model": "starter", "steps": result.steps})
    state = load_file(half / "model.safetensors")
    half_state = {name: value.half() for name, value in state.items()}
    save_file(half_state, half / "model.safetensors", {"format": "pt"})
    print(f"{arguments.out}: {result.steps} steps in {result.seconds:.0f} s")


class Marks:
    """A progress that calls `measure` at CPU-seconds of work, and ends at the last."""

    def __init__(self, measure):
        self.measure, self.left, self.found = measure, list(MARKS), {}

    def track(self, items, total, what, unit):
        """Yield until the last mark."""
        used = 0.0
        for item in items:
            start = time.thread_time()
            yield item
            used += time.thread_time() - start
            while self.left and used >= self.left[0]:
                self.found[self.left.pop(0)] = self.measure()
            if not self.left:
                return

    def stage(self, what):
        """Say nothing."""


class Ground:
    """The starter model, held-out text, and text to heal on."""

    def __init__(self, arguments):
        self.source = load_model("starter", dtype="float32")
        self.unread = python_texts(range(6, 10))
        held_out = python_texts([0])
        for texts in (self.unread, held_out):
            random.Random(0).shuffle(texts)
        size = arguments.size
        joined = [text[:10_000] for text in held_out]
        while sum(map(len, joined[:-1])) > size:
            joined.pop()
        self.text = {"python": joined}
        if arguments.data:
            book = next((arguments.data / "corpora/en").rglob(HELD_OUT_BOOKS[0]))
            start = 20_000
            english = book.read_text(encoding="utf-8")[start : start + size // 2]
            self.text["english"] = [english]

    def bits(self, model, vocabulary):
        """Bits per byte by kind of text."""
        lm = replace(self.source, model=model, vocabulary=vocabulary)
        kinds = self.text.items()
        return {k: round(bits_per_byte(lm, t, context=512).bits_per_byte, 4) for k, t in kinds}

    def moved(self, model, destination, name, options):
        """Return the model right after the move."""
        method = INITIALIZERS.create(name, options.get(name))
        sample, size = [], 0
        for text in self.unread:
            if size < 1_500_000:
                sample.append(text[:10_000])
                size += len(sample[-1])
        vocabulary = self.source.vocabulary
        return transplant(model, vocabulary, destination, method, texts=tuple(sample))[0]

    def healed(self, model, vocabulary):
        """Return bits per byte after the marks of cross-entropy on unread Python, and the model."""
        end = vocabulary.eos_token_id
        ids = []
        for own in vocabulary.encode_batch(self.unread):
            ids += own if end is None else [end, *own]
        method = HEALERS.create("cross_entropy", {"length": 256, "batch_tokens": 2048})
        trained = copy.deepcopy(model)
        probe = HealInput(copy.deepcopy(model), vocabulary, torch.tensor(ids), num_steps=2)
        start = time.thread_time()
        method.heal(probe)
        steps = int(MARKS[-1] / ((time.thread_time() - start) / 2) * 1.2)
        marks = Marks(lambda: self.bits(trained, vocabulary))
        method.heal(replace(probe, model=trained, num_steps=steps, progress=marks))
        return {"seconds": marks.found}, trained


def say(**row):
    """Print one row."""
    print(json.dumps(row), flush=True)


def measure(arguments):
    """Print what the network is worth."""
    torch.set_num_threads(1)
    ground = Ground(arguments)
    source = ground.source
    options = {"zett": {"hypernetwork": str(arguments.network)}}
    learned = LEARNERS.create("bpe").learn(
        ground.unread, source.vocabulary, source.vocabulary.vocab_size
    )
    targets = {"fresh BPE": learned.vocabulary()}
    names = [folder.name for folder in arguments.tokenizer]
    for folder in arguments.tokenizer:
        targets[folder.name] = load_vocabulary(folder)
    say(model="source", **ground.bits(source.model, source.vocabulary))
    for target, destination in targets.items():
        slow = () if target in names else ("context_distillation",)  # minutes on large ones
        for name in ("zett", *INITIALIZERS_MEASURED, *slow):
            start = time.thread_time()
            moved = ground.moved(source.model, destination, name, options)
            seconds = round(time.thread_time() - start, 1)
            found = ground.bits(moved, destination)
            say(target=target, init=name, **found, init_seconds=seconds)
    control, tuned = ground.healed(source.model, source.vocabulary)
    say(model="source, healed the same way", **control)
    say(model="fine-tuned", **ground.bits(tuned, source.vocabulary))
    for name in ("zett", "mean"):
        moved = ground.moved(tuned, targets["fresh BPE"], name, options)
        say(
            model="fine-tuned",
            target="fresh BPE",
            init=name,
            **ground.bits(moved, targets["fresh BPE"]),
        )
    for target, destination in targets.items():
        for name in ("zett", "mean"):
            moved = ground.moved(source.model, destination, name, options)
            say(target=target, init=name, **ground.healed(moved, destination)[0])


def main():
    """Read the arguments."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    verbs = parser.add_subparsers(required=True)
    first = verbs.add_parser("train")
    first.add_argument("--data", type=Path, help="Folder of the starter model's data.")
    first.add_argument("--out", type=Path, required=True)
    first.add_argument("--steps", type=int, default=1500)
    first.set_defaults(run=train)
    second = verbs.add_parser("measure")
    second.add_argument("--network", type=Path, required=True)
    second.add_argument("--data", type=Path, help="Folder of the starter model's data.")
    second.add_argument("--tokenizer", type=Path, action="append", default=[])
    second.add_argument("--size", type=int, default=60_000, help="Characters of Python scored.")
    second.set_defaults(run=measure)
    arguments = parser.parse_args()
    arguments.run(arguments)


if __name__ == "__main__":
    main()
