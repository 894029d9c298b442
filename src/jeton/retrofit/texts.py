"""The three kinds of text of a retrofit: to learn from, to verify on, and general text."""

import random
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from jeton.core.texts import TextCollection, read_texts
from jeton.errors import InputError
from jeton.retrofit.config import JobConfig
from jeton.starter import general_text_path

OWN_SAMPLE = "a prose sample that ships with jeton"


@dataclass(frozen=True, slots=True)
class Texts:
    """Texts of a run.

    Attributes:
        train: Documents to learn and heal on.
        held_out: Documents that only verification sees, cut to `verify_bytes`.
        held_out_names: Their files.
        general_train: General documents that are mixed into healing; may be empty.
        general: General documents that show forgetting.
        general_source: Where the general text comes from, in words.
        hashes: sha256 of every input file, for the run's record.
    """

    train: TextCollection
    held_out: list[str]
    held_out_names: list[str]
    general_train: list[str]
    general: list[str]
    general_source: str
    hashes: dict[str, str]


def gather(config: JobConfig) -> Texts:
    """Read and divide the texts of a configuration.

    Raises:
        InputError: a text is missing, empty, binary or not UTF-8, or too short to divide.
    """
    everything = read_texts(list(config.text), limit_bytes=config.max_text_bytes)
    hashes = dict(everything.hashes())
    if config.held_out:
        apart = read_texts(list(config.held_out))
        hashes.update(apart.hashes())
        known = {file.path.resolve() for file in apart.files}
        kept = tuple(f for f in everything.files if f.path.resolve() not in known)
        if not kept:
            raise InputError(
                "every file of --text is also in --held-out", hint="give other text to learn from"
            )
        train = TextCollection(kept, everything.skipped, everything.field, everything.limit_bytes)
    else:
        train, apart, _ = everything.split(0.1)
    held_out, names = _take(apart, config.verify_bytes)
    if config.general:
        given = read_texts(list(config.general), limit_bytes=config.max_text_bytes)
        hashes.update(given.hashes())
        general_part, verify_part, _ = given.split(0.1)
        general_train, general_source = list(general_part), _names(config.general)
        general, _ = _take(verify_part, config.verify_bytes)
    else:
        general_train, general_source = [], OWN_SAMPLE
        general = list(read_texts(general_text_path()))
    return Texts(train, held_out, names, general_train, general, general_source, hashes)


def _names(paths: Iterable[Path]) -> str:
    return ", ".join(path.name for path in paths)


def _take(collection: TextCollection, limit_bytes: int) -> tuple[list[str], list[str]]:
    """Return documents in a fixed shuffled order up to a size, and the names of their files."""
    documents = list(collection.documents())
    random.Random(0).shuffle(documents)
    taken, names, left = [], [], limit_bytes
    for document in documents:
        if left <= 0:
            break
        text = document.text.encode()[:left].decode(errors="ignore")
        left -= len(text.encode())
        taken.append(text)
        names.append(document.name.split("#", 1)[0])
    return taken, sorted(set(names))
