"""What the bench of the transfer room measures on, and the file that keeps what it has measured."""

import contextlib
import fcntl
import hashlib
import json
import random
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch

from jeton.core.vocabulary import Vocabulary
from jeton.errors import CorruptRunError
from jeton.learn.registry import LEARNERS
from jeton.lm.bits import bits_per_byte
from jeton.lm.load import LanguageModel, load_model
from jeton.starter import general_text_path, library_bucket, library_files
from jeton.transfer.static_vectors import sample_texts

clock = time.thread_time
Cell = dict[str, Any]


@dataclass(frozen=True)
class Ground:
    """What all sections start from."""

    source: LanguageModel
    train: list[str]
    held_out: list[str]
    general: list[str]
    replay: list[str]
    options: dict[str, dict[str, Any]]
    kept: dict[str, Any] = field(default_factory=dict)

    def bits(
        self,
        model: Any,
        vocabulary: Vocabulary,
        *,
        on_general: bool = False,
        context: int = 512,
    ) -> float:
        """Bits per byte of a model on the held-out text."""
        lm = replace(self.source, model=model, vocabulary=vocabulary)
        texts = self.general if on_general else self.held_out
        return bits_per_byte(lm, texts, context=context).bits_per_byte

    def fresh_vocabulary(self) -> Vocabulary:
        """Return a vocabulary of the source's size, learned on the unread text."""
        base = self.source.vocabulary
        learn = LEARNERS.create("bpe").learn
        found: Vocabulary = self.once(
            "fresh", lambda: learn(self.train, base, base.vocab_size).vocabulary()
        )
        return found

    def sample(self) -> tuple[str, ...]:
        """Return the text that initializers may learn from: the beginning of every file."""
        return tuple(sample_texts(self.train, 4_000_000))

    def token_ids(self, name: str, vocabulary: Vocabulary, texts: Sequence[str]) -> torch.Tensor:
        """Return the ids of all texts with an end-of-text between them, encoded once per name."""
        ids: torch.Tensor = self.once(f"ids of {name}", lambda: join(vocabulary, texts))
        return ids

    def once(self, name: str, make: Callable[[], Any]) -> Any:
        """Return what was made under this name."""
        if name not in self.kept:
            self.kept[name] = make()
        return self.kept[name]

    def fingerprint(self) -> str:
        """Return a hash of all texts and of the source's weights."""
        digest = hashlib.sha256()
        for text in [*self.train, *self.held_out, *self.general, *self.replay]:
            digest.update(text.encode())
        digest.update(self.source.model.get_input_embeddings().weight.detach().numpy().tobytes())
        return digest.hexdigest()[:16]


def make_ground(quick: bool, hypernetwork: str) -> Ground:
    """Load the starter model and cut the standard library."""
    files = {name: path.read_text(encoding="utf-8") for name, path in library_files().items()}
    train = [text for name, text in files.items() if library_bucket(name) >= 6]
    held_out = [text for name, text in files.items() if library_bucket(name) == 0]
    replay = [text for name, text in files.items() if 1 <= library_bucket(name) <= 5]
    for texts in (train, held_out, replay):
        random.Random(0).shuffle(texts)
    size = 15_000 if quick else 120_000
    if quick:
        train, replay = first(train, 1_000_000), first(replay, 1_000_000)
    general = general_text_path().read_text(encoding="utf-8")
    options: dict[str, dict[str, Any]] = {}
    if hypernetwork:
        options["zett"] = {"hypernetwork": hypernetwork}
    if quick:
        options["context_distillation"] = {"start": "mean", "steps": 2}
    source = load_model("starter", dtype="float32")
    return Ground(source, train, first(held_out, size), [general[:size]], replay, options)


def first(texts: Sequence[str], size: int) -> list[str]:
    """Return pieces of at most 10,000 characters, `size` of them in all."""
    pieces: list[str] = []
    for text in texts:
        left = size - sum(map(len, pieces))
        if left <= 0:
            break
        pieces.append(text[: min(left, 10_000)])
    return pieces


def join(vocabulary: Vocabulary, texts: Sequence[str]) -> torch.Tensor:
    """Return the ids of all texts, an end-of-text before each."""
    end = vocabulary.eos_token_id
    ids: list[int] = []
    for encoded in vocabulary.encode_batch(texts):
        ids += [*encoded] if end is None else [end, *encoded]
    return torch.tensor(ids)


class Cells:
    """Measured cells by name, written to a file one by one, so that a killed bench goes on.

    Several processes may write to one file.

    Args:
        path: The file; None keeps nothing.
        ground: Hash of what is measured on; cells of another ground are refused.
        is_reading: Whether nothing is measured: what the file does not hold stays out.
    """

    def __init__(self, path: Path | None, ground: str, *, is_reading: bool = False) -> None:
        self.path, self.ground, self.is_reading = path, ground, is_reading
        self.found: dict[str, Cell] = self._read()
        self.recorded = set(self.found)

    def get(self, name: str, measure: Callable[[], Cell]) -> Cell | None:
        """Return a cell, measured now where the file does not hold it."""
        if name not in self.found and not self.is_reading:
            self.found |= self._read()  # another process may have measured it by now
        if name not in self.found and not self.is_reading:
            self._write(name, measure())
        return self.found.get(name)

    def folder(self, name: str) -> Path | None:
        """Return where a long cell may keep its checkpoint."""
        if self.path is None:
            return None
        folder = self.path.with_name(self.path.name + ".running")
        folder.mkdir(parents=True, exist_ok=True)
        return folder / name.replace("/", "-")

    def _read(self) -> dict[str, Cell]:
        if self.path is None or not self.path.is_file():
            return {}
        document = json.loads(self.path.read_text(encoding="utf-8"))
        if document["ground"] != self.ground:
            raise CorruptRunError(
                f"{self.path} holds cells of another ground (other files of Python, --quick, or "
                "another starter model)",
                hint="give another --cells",
            )
        cells: dict[str, Cell] = document["cells"]
        return cells

    def _write(self, name: str, cell: Cell) -> None:
        if self.path is None:
            self.found[name] = cell
            return
        with self._locked():
            self.found = {**self._read(), name: cell}
            partial = self.path.with_name(self.path.name + ".partial")
            document = {"ground": self.ground, "cells": self.found}
            partial.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
            partial.replace(self.path)

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        assert self.path is not None
        with self.path.with_name(self.path.name + ".lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield
