"""`retrofit`: audit, learn, transplant, heal, verify, certify; every stage survives a kill.

Stages run in a fixed order; each writes its outcome as one item of the run folder, so that a
resumed run repeats nothing that was finished and ends with the same figures.
"""

import contextlib
import json
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch

from jeton.core.progress import NO_PROGRESS, Progress
from jeton.core.run import RunFolder, disk_errors, environment, to_json, write_atomically
from jeton.core.vocabulary import Vocabulary, load_vocabulary
from jeton.decoding.registry import DRAFTERS
from jeton.errors import ConfigError
from jeton.learn.registry import LEARNERS
from jeton.report.html import render_html
from jeton.retrofit import stages
from jeton.retrofit.config import RetrofitConfig
from jeton.retrofit.page import retrofit_document
from jeton.retrofit.result import RetrofitResult
from jeton.retrofit.texts import Texts, gather
from jeton.transfer.registry import HEALERS, INITIALIZERS


def retrofit(config: RetrofitConfig, *, progress: Progress = NO_PROGRESS) -> RetrofitResult:
    """Move a model onto a vocabulary learned from the user's text, and certify it.

    Args:
        config: What is asked.
        progress: Where to report.
    Returns:
        The certificate, also written to `out/result.json`; beside it stand `report.html`,
        `jeton.json` and `model/`, an ordinary Hugging Face folder.

    Raises:
        ConfigError: an option is wrong, or `out` is not empty.
        InputError: text is missing, empty, binary or not UTF-8.
        UnsupportedModelError, CheckpointError, TokenizerError: the model cannot be used.
        DiskFullError: nothing more could be written; finished stages are kept.
    """
    _check_names(config)
    texts = gather(config)
    # The model is loaded before anything is written, so that a bad one leaves nothing behind.
    source = stages.load_source(config)
    folder = RunFolder.create(config.out, asdict(config), texts.hashes)
    return _Pipeline(config, folder, texts, source, progress).run()


def resume(path: Path, *, progress: Progress = NO_PROGRESS) -> RetrofitResult:
    """Finish the run that a folder holds; a finished one is only certified again.

    Raises:
        ConfigError: the folder holds no run of a retrofit.
        CorruptRunError: it is damaged, or its inputs changed since.
    """
    folder = RunFolder.resume(path)
    config = replace(RetrofitConfig.from_json(folder.document()["config"]), out=path)
    _check_names(config)
    texts = gather(config)
    folder.check_unchanged(texts.hashes)
    return _Pipeline(config, folder, texts, stages.load_source(config), progress).run()


def _check_names(config: RetrofitConfig) -> None:
    """Fail on a misspelt method before anything is read."""
    learners = ["extend", "bpe"] if config.learner == "auto" else [config.learner]
    for name in learners:
        LEARNERS.create(name, config.options_for(name))
    INITIALIZERS.create(config.init, config.options_for(config.init))
    HEALERS.create(config.heal, config.options_for(config.heal))
    DRAFTERS.create(config.drafter)
    chosen = {*learners, config.init, config.heal}
    strays = sorted(k for k in config.options if k.partition(".")[0] not in chosen)
    if strays:
        raise ConfigError(
            f"--set {strays[0]} belongs to no chosen method; chosen: {', '.join(sorted(chosen))}"
        )


class _Pipeline:
    """The stages over one run folder."""

    def __init__(
        self,
        config: RetrofitConfig,
        folder: RunFolder,
        texts: Texts,
        source: Any,
        progress: Progress,
    ) -> None:
        self.config, self.folder, self.texts = config, folder, texts
        self.source, self.progress = source, progress
        self.work = folder.path / "work"
        self.done = {item["stage"]: item["outcome"] for item in folder.items()}
        self.timings: dict[str, float] = {}

    def run(self) -> RetrofitResult:
        """Run what is not done yet and write the certificate."""
        with disk_errors(self.work):
            self.work.mkdir(exist_ok=True)
        c, s, t, progress = self.config, self.source, self.texts, self.progress
        model_folder = self.folder.path / "model"
        with use_threads(c.threads):
            self._stage("source figures", lambda: stages.bits(s, t, progress))
            self._stage("learn", lambda: stages.learn(c, s, t, self.work, progress))
            learned = self._learned(model_folder)
            self._stage("transplant", lambda: stages.bits_at_start(c, s, learned, t, progress))
            plan = self._stage("plan", lambda: stages.plan(c, s, learned, t))
            self._stage(
                "heal",
                lambda: stages.heal(c, s, learned, t, plan, self.work, model_folder, progress),
            )
            destination = stages.load_destination(c, model_folder)
            self._stage("destination figures", lambda: stages.bits(destination, t, progress))
            self._stage("speed", lambda: stages.speeds(c, s, destination, t))
            audits = stages.audits(s, destination, t)
            result = stages.certificate(c, s, destination, t, self.done, audits)
        result = replace(result, timings_s=self._all_timings(), environment=environment())
        self._publish(result)
        return result

    def _learned(self, model_folder: Path) -> Vocabulary:
        """Return the learned vocabulary; a finished run has it beside the model only."""
        folder = self.work / "tokenizer"
        return load_vocabulary(folder if folder.is_dir() else model_folder)

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

    def _all_timings(self) -> dict[str, float]:
        return {item["stage"]: item["seconds"] for item in self.folder.items()}

    def _publish(self, result: RetrofitResult) -> None:
        """Write everything that a reader of the folder finds; `result.json` is the last."""
        provenance = {
            "made_by": "jeton",
            "method": {
                "learner": self.done["learn"]["learner"],
                "init": self.config.init,
                "heal": self.config.heal,
            },
            **self.folder.document(),
        }
        write_atomically(
            self.folder.path / "model" / "jeton.json", json.dumps(provenance, indent=2) + "\n"
        )
        write_atomically(self.folder.path / "jeton.json", json.dumps(provenance, indent=2) + "\n")
        document = retrofit_document(result)
        write_atomically(self.folder.path / "report.html", render_html(document))
        self.folder.finish(result)
        with contextlib.suppress(OSError):
            shutil.rmtree(self.work)


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
