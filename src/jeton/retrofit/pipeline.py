"""`retrofit`: audit, learn, transplant, heal, verify, certify; every stage survives a kill."""

from pathlib import Path
from typing import Any, ClassVar

from jeton.core.progress import NO_PROGRESS, Progress
from jeton.decoding.registry import DRAFTERS
from jeton.decoding.tune import Tuning
from jeton.errors import ConfigError
from jeton.learn.registry import LEARNERS
from jeton.lm.load import LanguageModel
from jeton.report.document import Document
from jeton.retrofit import stages
from jeton.retrofit.auto_init import candidates
from jeton.retrofit.config import RetrofitConfig
from jeton.retrofit.job import Job, check_options
from jeton.retrofit.page import retrofit_document
from jeton.retrofit.result import RetrofitResult
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
    return Retrofit.start(config, progress)


def resume(path: Path, *, progress: Progress = NO_PROGRESS) -> RetrofitResult:
    """Finish the run that a folder holds; a finished one is only certified again.

    Raises:
        ConfigError: the folder holds no run of a retrofit.
        CorruptRunError: it is damaged, or its inputs changed since.
    """
    return Retrofit.resume("retrofit", path, progress)


class Retrofit(Job[RetrofitConfig, RetrofitResult]):
    """The main job."""

    config_class: ClassVar[type[Any]] = RetrofitConfig

    @classmethod
    def configured(cls, verb: str, fields: dict[str, Any]) -> RetrofitConfig:
        """Return the configuration of the verb from its fields."""
        drafter = fields["drafter"]
        if drafter.endswith(".json"):
            fields = {**fields, "drafter": _fastest(drafter)}
        return RetrofitConfig(**fields)

    @classmethod
    def check(cls, config: RetrofitConfig) -> None:
        """Fail on a misspelt method before anything is read."""
        learners = ["extend", "bpe"] if config.learner == "auto" else [config.learner]
        for name in learners:
            LEARNERS.create(name, config.options_for(name))
        inits = candidates(config.init)
        for name in inits:
            INITIALIZERS.create(name, config.options_for(name))
        HEALERS.create(config.heal, config.options_for(config.heal))
        DRAFTERS.create(config.drafter)
        check_options(config.options, {*learners, *inits, config.heal})

    def make_vocabulary(self) -> None:
        """Write the vocabulary that the model is moved onto."""
        c, s, t = self.config, self.source, self.texts
        self.stage("destination", lambda: stages.learn(c, s, t, self.work, self.progress))

    def verify(self, destination: LanguageModel) -> RetrofitResult:
        """Time decoding; return the certificate."""
        c, s, t = self.config, self.source, self.texts
        self.stage("speed", lambda: stages.speeds(c, s, destination, t))
        return stages.certificate(c, s, destination, t, self.done)

    def method(self) -> dict[str, Any]:
        """Return what was done, for the model's provenance."""
        learner, init = self.done["destination"]["learner"], self.done["transplant"]["init"]
        return {"learner": learner, "init": init, "heal": self.config.heal}

    @classmethod
    def document(cls, result: RetrofitResult) -> Document:
        """Return the page."""
        return retrofit_document(result)


def _fastest(path: str) -> str:
    """Return the drafter that a tuning found to be the fastest."""
    found = Tuning.load(path).best.drafter
    if found == "none":
        raise ConfigError(
            f"{path} found plain decoding the fastest", hint="name a drafter with --drafter"
        )
    return found
