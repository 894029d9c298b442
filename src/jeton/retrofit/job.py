"""A job over its run folder: stages in a fixed order, each of them run once.

Each stage writes its outcome as one item of the folder, so that a resumed job repeats nothing that
was finished and ends with the same figures. Where torchrun started several processes, they heal
together and process 0 does everything else.
"""

import contextlib
import json
import shutil
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, ClassVar, Generic, TypeVar

import torch

from jeton.core.progress import NO_PROGRESS, Progress
from jeton.core.run import RunFolder, disk_errors, environment, to_json, write_atomically
from jeton.core.vocabulary import load_vocabulary
from jeton.errors import ConfigError, JetonError, UnsupportedModelError
from jeton.lm.load import LanguageModel, load_model
from jeton.report.document import Document
from jeton.report.html import render_html
from jeton.retrofit.config import JobConfig
from jeton.retrofit.healing import Healing, figures
from jeton.retrofit.result import Certificate
from jeton.retrofit.texts import Texts, gather
from jeton.transfer.distributed import Workers, process_group

ConfigT = TypeVar("ConfigT", bound=JobConfig)
ResultT = TypeVar("ResultT", bound=Certificate)


class Job(ABC, Generic[ConfigT, ResultT]):
    """The stages over one run folder; a verb says how the vocabulary is made and what is measured.

    Args:
        config: What is asked.
        folder: Of the run.
        texts: To learn from and to measure on.
        models: The source, and the teacher where there is one.
        workers: This process among those that heal together.
        progress: Where to report.
    """

    config_class: ClassVar[type[Any]]

    def __init__(
        self,
        config: ConfigT,
        folder: RunFolder,
        texts: Texts,
        models: tuple[LanguageModel, LanguageModel | None],
        workers: Workers,
        progress: Progress,
    ) -> None:
        self.config, self.folder, self.texts = config, folder, texts
        self.source, self.teacher = models
        self.workers, self.progress = workers, progress
        self.work, self.model_folder = folder.path / "work", folder.path / "model"
        found = folder.items() if workers.rank == 0 else None
        self.done = {item["stage"]: item["outcome"] for item in workers.broadcast(found)}

    @classmethod
    @abstractmethod
    def configured(cls, verb: str, fields: dict[str, Any]) -> ConfigT:
        """Return the configuration of a verb from its fields."""

    @classmethod
    @abstractmethod
    def check(cls, config: ConfigT) -> None:
        """Fail on a misspelt method before anything is read."""

    @classmethod
    def check_texts(cls, config: ConfigT, texts: Texts) -> None:
        """Warn of texts that are not what was asked for."""

    @abstractmethod
    def make_vocabulary(self) -> None:
        """Run the stage "destination", which writes `work/tokenizer`."""

    @abstractmethod
    def verify(self, destination: LanguageModel) -> ResultT:
        """Measure what came out, and return the certificate."""

    @abstractmethod
    def method(self) -> dict[str, Any]:
        """Return what was done, for the model's provenance."""

    @classmethod
    @abstractmethod
    def document(cls, result: ResultT) -> Document:
        """Return the page."""

    @classmethod
    def start(cls, config: ConfigT, progress: Progress) -> ResultT:
        """Run a new job."""
        cls.check(config)
        texts = gather(config)
        cls.check_texts(config, texts)
        # Models are loaded before anything is written, so that a bad one leaves nothing behind.
        models = _load(config)
        with process_group() as workers:
            folder = RunFolder(config.out)
            if workers.rank == 0:
                RunFolder.create(config.out, asdict(config), texts.hashes)
            try:
                return cls(config, folder, texts, models, workers, progress).run()
            except JetonError:
                if workers.rank == 0 and not folder.items():
                    # Nothing was finished: the same --out can be given again.
                    shutil.rmtree(folder.path, ignore_errors=True)
                raise

    @classmethod
    def resume(cls, verb: str, path: Path, progress: Progress) -> ResultT:
        """Finish the run that a folder holds; a finished one is only certified again."""
        folder = RunFolder.resume(path)
        asked = folder.document()["config"]
        found = asked.get("verb", "retrofit")
        if found != verb:
            raise ConfigError(
                f"{path} holds a run of jeton {found}", hint=f"jeton {found} --resume {path}"
            )
        config = replace(cls.config_class.from_json(asked), out=path)
        cls.check(config)
        texts = gather(config)
        folder.check_unchanged(texts.hashes)
        with process_group() as workers:
            return cls(config, folder, texts, _load(config), workers, progress).run()

    def run(self) -> ResultT:
        """Run what is not done yet and write the certificate."""
        if self.workers.rank > 0:
            self.progress = NO_PROGRESS
        with disk_errors(self.work):
            self.work.mkdir(exist_ok=True)
        with use_threads(self.config.threads):
            self.make_vocabulary()
            self.stage("source figures", lambda: self.figures(self.source))
            self._heal()
            destination = load_model(self.model_folder, dtype="auto")
            self.stage("destination figures", lambda: self.figures(destination))
            result = self.verify(destination)
        timings = {item["stage"]: item["seconds"] for item in self.folder.items()}
        result = replace(result, timings_s=timings, environment=environment())
        if self.workers.rank == 0:
            self._publish(result)
        return result

    def _heal(self) -> None:
        # A finished run has the vocabulary beside the model only.
        tokenizer = self.work / "tokenizer"
        vocabulary = load_vocabulary(tokenizer if tokenizer.is_dir() else self.model_folder)
        healing = Healing(
            config=self.config,
            source=self.source,
            vocabulary=vocabulary,
            texts=self.texts,
            teacher=self.teacher,
            rows=self.work / "rows.pt",
            progress=self.progress,
        )
        domain_bits = self.done["source figures"]["domain"]["bits_per_byte"]
        self.stage("transplant", lambda: healing.bits_at_start(domain_bits))
        steps = self.stage("plan", healing.plan, together=True)["num_steps"]
        save_to = self.model_folder if self.workers.rank == 0 else None
        self.stage("heal", lambda: healing.heal(steps, self.work, save_to), together=True)

    def figures(self, lm: LanguageModel) -> dict[str, Any]:
        """Return bits per byte and sizes of a model."""
        return figures(lm, self.texts, self.progress)

    def stage(self, name: str, run: Callable[[], Any], *, together: bool = False) -> Any:
        """Return a stage's outcome, from the run folder when it is there.

        Args:
            name: Of the stage.
            run: Does it.
            together: Whether every process takes part; otherwise process 0 alone runs it.
        """
        if name not in self.done:
            outcome, is_first = None, self.workers.rank == 0
            started = time.monotonic()
            if is_first:
                self.progress.stage(name)
            if together or is_first:
                outcome = to_json(run())
            outcome = self.workers.broadcast(outcome)
            seconds = round(time.monotonic() - started, 2)
            if is_first:
                self.folder.append({"stage": name, "seconds": seconds, "outcome": outcome})
            self.done[name] = outcome
        return self.done[name]

    def _publish(self, result: ResultT) -> None:
        """Write everything that a reader of the folder finds; `result.json` is the last."""
        provenance = {"made_by": "jeton", "method": self.method(), **self.folder.document()}
        text = json.dumps(provenance, indent=2) + "\n"
        write_atomically(self.model_folder / "jeton.json", text)
        write_atomically(self.folder.path / "jeton.json", text)
        write_atomically(self.folder.path / "report.html", render_html(self.document(result)))
        self.folder.finish(result)
        with contextlib.suppress(OSError):
            shutil.rmtree(self.work)


def check_options(options: dict[str, Any], chosen: set[str]) -> None:
    """Refuse options of methods that were not chosen.

    Raises:
        ConfigError: naming the first of them.
    """
    strays = sorted(k for k in options if k.partition(".")[0] not in chosen)
    if strays:
        raise ConfigError(
            f"--set {strays[0]} belongs to no chosen method; chosen: {', '.join(sorted(chosen))}"
        )


def _load(config: Any) -> tuple[LanguageModel, LanguageModel | None]:
    """Return the source and the teacher, in the numbers that they are stored in."""
    source = load_model(config.model, dtype=config.dtype)
    if getattr(source.model.config, "quantization_config", None) is not None:
        raise UnsupportedModelError(
            f"{config.model} is quantised, and cannot be trained",
            hint="load the model without quantisation, move it, then quantise again",
        )
    teacher = getattr(config, "teacher", "")
    return source, load_model(teacher, dtype=config.dtype) if teacher else None


@contextlib.contextmanager
def use_threads(count: int) -> Iterator[None]:
    """Use so many CPU threads while a block runs; 0 changes nothing."""
    before = torch.get_num_threads()
    if count:
        torch.set_num_threads(count)
    try:
        yield
    finally:
        if count:
            torch.set_num_threads(before)
