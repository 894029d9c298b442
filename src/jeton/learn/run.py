"""`learn`: a run folder that ends as a tokenizer; a killed run goes on where its counts stand."""

import shutil
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from jeton.core.progress import NO_PROGRESS, Progress
from jeton.core.run import RunFolder
from jeton.core.texts import TextCollection, read_texts
from jeton.core.vocabulary import Vocabulary, load_vocabulary
from jeton.errors import ConfigError, InputError, UnsupportedModelError
from jeton.learn.contract import LearnedVocabulary, Learner, SizePoint
from jeton.learn.counts import Corpus
from jeton.learn.export import export_tokenizer
from jeton.learn.prune import choose_size
from jeton.learn.registry import LEARNERS

SCHEMA_VERSION = 1
AUTO = "auto"
_HELD_OUT_BYTES = 1_000_000
_FIRST_SIZE, _LAST_SIZE = 1024, 262_144
_NUM_EXAMPLES = 24


@dataclass(frozen=True, slots=True)
class LearnConfig:
    """What `jeton learn` is asked to do: one field per flag.

    Attributes:
        method: Name of the learner.
        text: Files and folders.
        out: Folder to write; must not exist or be empty.
        vocab_size: A number, "auto", or empty for the learner's default.
        base: Tokenizer to start from or to take special tokens and pre-tokenizer of.
        text_field: Field of JSON lines or column of Parquet files that holds the text.
        max_text_bytes: Most text that is read; 0 for all.
        processes: Processes that count.
        hidden_size: For auto: width of the model that will use the vocabulary.
        body_parameters: For auto: its parameters besides the embeddings.
        options: Fields of the method.
    """

    method: str
    text: tuple[Path, ...]
    out: Path
    vocab_size: str = ""
    base: str = ""
    text_field: str = "text"
    max_text_bytes: int = 0
    processes: int = 1
    hidden_size: int = 2048
    body_parameters: int = 1_000_000_000
    options: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.text:
            raise ConfigError("no text was given", hint="add --text FILE_OR_FOLDER")
        size = self.vocab_size
        if size not in ("", AUTO) and not (size.isdecimal() and 0 < int(size) <= 4_000_000):
            raise ConfigError(
                f"vocab_size must be 1 to 4000000 or auto, got {size!r}",
                hint="for example --vocab-size 32000",
            )
        checks = {"max_text_bytes": 0, "processes": 1, "hidden_size": 1, "body_parameters": 0}
        for name, least in checks.items():
            if getattr(self, name) < least:
                raise ConfigError(f"{name} must be at least {least}, got {getattr(self, name)}")

    @classmethod
    def from_json(cls, document: dict[str, Any]) -> "LearnConfig":
        """Return the configuration that `run.json` holds.

        Raises:
            ConfigError: a field is unknown or missing.
        """
        try:
            values = {**document, "out": Path(document["out"])}
            values["text"] = tuple(Path(path) for path in document["text"])
            return cls(**values)
        except (TypeError, KeyError) as error:
            raise ConfigError(f"this run.json is not of learn: {error}") from error


@dataclass(frozen=True, slots=True)
class SizeChoice:
    """One size that was tried for auto.

    Attributes:
        vocab_size: Ids.
        bytes_per_token: On text held out from learning.
        parameters_per_byte: What a forward pass reads for each byte of text.
    """

    vocab_size: int
    bytes_per_token: float
    parameters_per_byte: float


@dataclass(frozen=True, slots=True)
class LearnResult:
    """What came out.

    Attributes:
        schema_version: Of this document.
        method: Name of the learner.
        vocab_size: Ids of the tokenizer, added tokens included.
        num_kept: Tokens of the base that it still has.
        num_new: Tokens that the base did not have.
        num_bytes: Size of the text, in UTF-8.
        bytes_per_token: On the text that was learned from.
        source_bytes_per_token: Of the base on that text; None without a base.
        seconds: Wall time of learning.
        curve: Bytes per token against size, on the text that was learned from.
        sizes: What auto tried; empty when the size was given.
        examples: The longest tokens.
        notes: What a reader should know.
        folder: Where the tokenizer stands.
    """

    schema_version: int
    method: str
    vocab_size: int
    num_kept: int
    num_new: int
    num_bytes: int
    bytes_per_token: float
    source_bytes_per_token: float | None
    seconds: float
    curve: tuple[SizePoint, ...]
    sizes: tuple[SizeChoice, ...]
    examples: tuple[str, ...]
    notes: tuple[str, ...]
    folder: Path


def learn_to_folder(config: LearnConfig, *, progress: Progress = NO_PROGRESS) -> LearnResult:
    """Learn a vocabulary and write it as a folder that transformers loads.

    Raises:
        InputError: the text cannot be read or is too small.
        ConfigError: an option is not allowed, or the folder is not empty.
    """
    LEARNERS.create(config.method, config.options)  # refuse before anything is read
    texts = _texts(config)
    run = RunFolder.create(config.out, {"verb": "learn", **_plain(config)}, texts.hashes())
    try:
        return _finish(run, config, texts, progress)
    except (ConfigError, InputError, UnsupportedModelError):
        shutil.rmtree(run.path, ignore_errors=True)  # what cannot be done cannot be resumed
        raise


def resume(folder: Path, *, progress: Progress = NO_PROGRESS) -> LearnResult:
    """Finish the run that a folder holds.

    Raises:
        ConfigError: there is no such run, or it is finished.
        CorruptRunError: the texts changed.
    """
    run = RunFolder.resume(folder)
    document = dict(run.document()["config"])
    if document.pop("verb", "") != "learn":
        raise ConfigError(f"{folder} is not a run of learn", hint="give the --out of such a run")
    if run.is_finished:
        raise ConfigError(f"{folder} is finished", hint="there is nothing to resume")
    config = LearnConfig.from_json({**document, "out": str(folder)})
    texts = _texts(config)
    run.check_unchanged(texts.hashes())
    return _finish(run, config, texts, progress)


def _texts(config: LearnConfig) -> TextCollection:
    return read_texts(
        config.text, limit_bytes=config.max_text_bytes or None, field=config.text_field
    )


def _plain(config: LearnConfig) -> dict[str, Any]:
    return {name: getattr(config, name) for name in config.__dataclass_fields__}


def _finish(
    run: RunFolder, config: LearnConfig, texts: TextCollection, progress: Progress
) -> LearnResult:
    learner: Learner = LEARNERS.create(config.method, config.options)
    base = load_vocabulary(config.base) if config.base else None
    counts = run.path / "counts"
    sizes: tuple[SizeChoice, ...] = ()
    vocab_size = int(config.vocab_size) if config.vocab_size.isdecimal() else None
    if config.vocab_size == AUTO:
        sizes, vocab_size = _try_sizes(config, learner, texts, base, counts / "train", progress)
    progress.stage(f"learning {vocab_size or ''} tokens by {config.method}".replace("  ", " "))
    corpus = Corpus(texts, counts, config.processes)
    learned = learner.learn(corpus, base, vocab_size, progress=progress)
    folder = Path(config.base) if Path(config.base).is_dir() and config.base else None
    export_tokenizer(learned, run.path, base=folder)
    result = LearnResult(
        schema_version=SCHEMA_VERSION,
        method=learned.method,
        vocab_size=learned.vocab_size,
        num_kept=learned.num_kept,
        num_new=learned.num_new,
        num_bytes=learned.num_bytes,
        bytes_per_token=learned.bytes_per_token,
        source_bytes_per_token=learned.source_bytes_per_token,
        seconds=learned.seconds,
        curve=learned.curve,
        sizes=sizes,
        examples=_examples(learned),
        notes=learned.notes,
        folder=run.path,
    )
    run.finish(result)
    shutil.rmtree(counts, ignore_errors=True)
    return result


def _try_sizes(
    config: LearnConfig,
    learner: Learner,
    texts: TextCollection,
    base: Vocabulary | None,
    counts: Path,
    progress: Progress,
) -> tuple[tuple[SizeChoice, ...], int]:
    """Learn at growing sizes until held-out text says that more no longer pays."""
    train, held_out, _ = texts.split(0.1)
    sample = _some(held_out)
    num_bytes = sum(len(text.encode()) for text in sample)
    corpus = Corpus(train, counts, config.processes)
    size = float(_FIRST_SIZE)
    if base is not None and learner.keeps_base_ids:
        size = base.vocab_size * 1.1
    points: list[SizePoint] = []
    best: SizePoint | None = None
    costs: tuple[float, ...] = ()
    while size <= _LAST_SIZE:
        vocab_size = int(size) // 64 * 64
        progress.stage(f"trying {vocab_size} tokens")
        try:
            learned = learner.learn(corpus, base, vocab_size, progress=progress)
        except InputError:
            if not points:
                raise
            break  # the text has no more tokens to give
        num_tokens = sum(map(len, learned.vocabulary().encode_batch(sample)))
        points.append(SizePoint(vocab_size, num_bytes / num_tokens))
        best, costs = choose_size(points, config.hidden_size, config.body_parameters)
        if points.index(best) < len(points) - 2:
            break  # two greater sizes were worse
        size *= 2**0.5
    if best is None:
        raise ConfigError(f"auto tries at most {_LAST_SIZE} tokens, below what the base has")
    choices = (
        SizeChoice(point.vocab_size, point.bytes_per_token, cost)
        for point, cost in zip(points, costs, strict=True)
    )
    return tuple(choices), best.vocab_size


def _some(texts: Iterable[str]) -> list[str]:
    """Return the first texts, about as many as are needed to measure."""
    taken, left = [], _HELD_OUT_BYTES
    for text in texts:
        if left <= 0:
            break
        taken.append(text[:left])
        left -= len(text)
    return taken


def _examples(learned: LearnedVocabulary) -> tuple[str, ...]:
    longest = sorted(set(learned.vocabulary().tokens), key=lambda token: (-len(token), token))
    return tuple(token.decode(errors="replace") for token in longest[:_NUM_EXAMPLES])
