"""A move over its run folder: destination, transplant, heal, verify, certify, each stage once."""

import contextlib
import json
import shutil
import time
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from jeton.core.progress import NO_PROGRESS, Progress
from jeton.core.run import RunFolder, disk_errors, environment, to_json, write_atomically
from jeton.core.vocabulary import load_vocabulary
from jeton.errors import ConfigError, JetonError
from jeton.learn.registry import LEARNERS
from jeton.lm.load import LanguageModel, load_model
from jeton.report.html import render_html
from jeton.retrofit import stages
from jeton.retrofit.moves import stages as moves
from jeton.retrofit.moves.config import MoveConfig
from jeton.retrofit.moves.destination import is_made, make_destination, tokenizer_folder
from jeton.retrofit.moves.language import check_language
from jeton.retrofit.moves.page import move_document
from jeton.retrofit.moves.result import MoveResult
from jeton.retrofit.pipeline import use_threads
from jeton.retrofit.texts import Texts, gather
from jeton.transfer.registry import HEALERS, INITIALIZERS


def move(config: MoveConfig, *, progress: Progress = NO_PROGRESS) -> MoveResult:
    """Move a model onto another vocabulary, or teach it by another model, and certify it.

    Args:
        config: What is asked.
        progress: Where to report.
    Returns:
        The certificate, also written to `out/result.json`; beside it stand `report.html`,
        `jeton.json` and `model/`, an ordinary Hugging Face folder.

    Raises:
        ConfigError: an option is wrong, or `out` is not empty.
        InputError: text is missing, empty, binary or not UTF-8.
        TokenizerMismatchError: the destination cannot write the text.
        UnsupportedModelError, CheckpointError, TokenizerError: a model cannot be used.
        DiskFullError: nothing more could be written; finished stages are kept.
    """
    config = config.resolved()
    _check_names(config)
    texts = gather(config)
    check_language(config.language, texts.train)
    source, teacher = _load(config)
    folder = RunFolder.create(config.out, asdict(config), texts.hashes)
    try:
        return _Moving(config, folder, texts, source, teacher, progress).run()
    except JetonError:
        if not folder.items():  # nothing was finished: the same --out can be given again
            shutil.rmtree(folder.path, ignore_errors=True)
        raise


def resume_move(verb: str, path: Path, *, progress: Progress = NO_PROGRESS) -> MoveResult:
    """Finish the run that a folder holds; a finished one is only certified again.

    Raises:
        ConfigError: the folder holds no run of this verb.
        CorruptRunError: it is damaged, or its inputs changed since.
    """
    folder = RunFolder.resume(path)
    config = replace(MoveConfig.from_json(folder.document()["config"]), out=path)
    if config.verb != verb:
        raise ConfigError(
            f"{path} holds a run of jeton {config.verb}",
            hint=f"jeton {config.verb} --resume {path}",
        )
    _check_names(config)
    texts = gather(config)
    folder.check_unchanged(texts.hashes)
    source, teacher = _load(config)
    return _Moving(config, folder, texts, source, teacher, progress).run()


def _load(config: MoveConfig) -> tuple[LanguageModel, LanguageModel | None]:
    """Load everything before anything is written, so that a bad model leaves nothing behind."""
    source = load_model(config.model, dtype=config.dtype)
    teacher = load_model(config.teacher, dtype=config.dtype) if config.verb == "distill" else None
    return source, teacher


def _check_names(config: MoveConfig) -> None:
    """Fail on a misspelt method before anything is read."""
    INITIALIZERS.create(config.init, config.options_for(config.init))
    HEALERS.create(config.heal, config.options_for(config.heal))
    chosen = {config.init, config.heal}
    learner = "extend" if config.verb == "extend" else config.to
    if config.verb in ("transfer", "extend") and learner in LEARNERS.names():
        LEARNERS.create(learner, config.options_for(learner))
        chosen.add(learner)
    if config.verb == "transfer" and not is_made(config.to):
        tokenizer_folder(config.to)
    strays = sorted(k for k in config.options if k.partition(".")[0] not in chosen)
    if strays:
        raise ConfigError(
            f"--set {strays[0]} belongs to no chosen method; chosen: {', '.join(sorted(chosen))}"
        )


class _Moving:
    """The stages over one run folder."""

    def __init__(
        self,
        config: MoveConfig,
        folder: RunFolder,
        texts: Texts,
        source: LanguageModel,
        teacher: LanguageModel | None,
        progress: Progress,
    ) -> None:
        self.config, self.folder, self.texts = config, folder, texts
        self.source, self.teacher, self.progress = source, teacher, progress
        self.work = folder.path / "work"
        self.done = {item["stage"]: item["outcome"] for item in folder.items()}

    def run(self) -> MoveResult:
        """Run what is not done yet and write the certificate."""
        with disk_errors(self.work):
            self.work.mkdir(exist_ok=True)
        with use_threads(self.config.threads):
            self._make()
            self._verify()
        result = moves.certificate(self.config, self.texts, self.done)
        timings = {item["stage"]: item["seconds"] for item in self.folder.items()}
        result = replace(result, timings_s=timings, environment=environment())
        self._publish(result)
        return result

    def _make(self) -> None:
        """Make the destination model."""
        c, s, t, progress = self.config, self.source, self.texts, self.progress
        tokenizer = self.work / "tokenizer"
        self._stage("destination", lambda: make_destination(c, s, t, tokenizer))
        self._stage("source figures", lambda: moves.figures(s, t, progress))
        model_folder = self.folder.path / "model"
        vocabulary = load_vocabulary(tokenizer if tokenizer.is_dir() else model_folder)
        self._stage("transplant", lambda: stages.bits_at_start(c, s, vocabulary, t, progress))
        plan = self._stage("plan", lambda: stages.plan(c, s, vocabulary, t, self.teacher))
        self._stage(
            "heal",
            lambda: stages.heal(
                c, s, vocabulary, t, plan, self.work, model_folder, progress, self.teacher
            ),
        )

    def _verify(self) -> None:
        """Measure what came out."""
        c, t, progress = self.config, self.texts, self.progress
        destination = load_model(self.folder.path / "model", dtype="auto")
        self._stage("destination figures", lambda: moves.figures(destination, t, progress))
        teacher = self.teacher
        if teacher is not None:
            self._stage("teacher figures", lambda: moves.figures(teacher, t, progress))
        self._stage("agreement", lambda: moves.agreement(teacher or self.source, destination, t))
        seconds = self.done["heal"]["seconds"]
        if c.control and seconds:
            self._stage(
                "control",
                lambda: moves.control(c, self.source, t, seconds, self.work, progress),
            )

    def _stage(self, name: str, run: Callable[[], Any]) -> Any:
        """Return a stage's outcome, from the run folder when it is there."""
        if name not in self.done:
            self.progress.stage(name)
            started = time.monotonic()
            outcome = to_json(run())
            seconds = round(time.monotonic() - started, 2)
            self.folder.append({"stage": name, "seconds": seconds, "outcome": outcome})
            self.done[name] = outcome
        return self.done[name]

    def _publish(self, result: MoveResult) -> None:
        """Write everything that a reader of the folder finds; `result.json` is the last."""
        method = {"verb": result.verb, "init": result.init, "heal": result.heal}
        provenance = {"made_by": "jeton", "method": method, **self.folder.document()}
        text = json.dumps(provenance, indent=2) + "\n"
        write_atomically(self.folder.path / "model" / "jeton.json", text)
        write_atomically(self.folder.path / "jeton.json", text)
        write_atomically(self.folder.path / "report.html", render_html(move_document(result)))
        self.folder.finish(result)
        with contextlib.suppress(OSError):
            shutil.rmtree(self.work)
