"""A move over its run folder: destination, transplant, heal, verify, certify, each stage once."""

from dataclasses import asdict
from pathlib import Path
from typing import Any, ClassVar

from jeton.core.progress import NO_PROGRESS, Progress
from jeton.learn.registry import LEARNERS
from jeton.lm.load import LanguageModel
from jeton.report.document import Document
from jeton.retrofit.auto_init import candidates
from jeton.retrofit.job import Job, check_options
from jeton.retrofit.moves import stages
from jeton.retrofit.moves.agreement import greedy_agreement
from jeton.retrofit.moves.config import MoveConfig
from jeton.retrofit.moves.destination import is_made, make_destination, tokenizer_folder
from jeton.retrofit.moves.language import check_language
from jeton.retrofit.moves.page import move_document
from jeton.retrofit.moves.result import MoveResult
from jeton.retrofit.texts import Texts
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
    return Move.start(config.resolved(), progress)


def resume_move(verb: str, path: Path, *, progress: Progress = NO_PROGRESS) -> MoveResult:
    """Finish the run that a folder holds; a finished one is only certified again.

    Raises:
        ConfigError: the folder holds no run of this verb.
        CorruptRunError: it is damaged, or its inputs changed since.
    """
    return Move.resume(verb, path, progress)


class Move(Job[MoveConfig, MoveResult]):
    """One of the verbs."""

    config_class: ClassVar[type[Any]] = MoveConfig

    @classmethod
    def configured(cls, verb: str, fields: dict[str, Any]) -> MoveConfig:
        """Return the configuration of the verb from its fields."""
        return MoveConfig(verb=verb, **fields).resolved()

    @classmethod
    def check(cls, config: MoveConfig) -> None:
        """Fail on a misspelt method before anything is read."""
        inits = candidates(config.init)
        for name in inits:
            INITIALIZERS.create(name, config.options_for(name))
        HEALERS.create(config.heal, config.options_for(config.heal))
        chosen = {*inits, config.heal}
        learner = "extend" if config.verb == "extend" else config.to
        if config.verb in ("transfer", "extend") and learner in LEARNERS.names():
            LEARNERS.create(learner, config.options_for(learner))
            chosen.add(learner)
        if config.verb == "transfer" and not is_made(config.to):
            tokenizer_folder(config.to)
        check_options(config.options, chosen)

    @classmethod
    def check_texts(cls, config: MoveConfig, texts: Texts) -> None:
        """Warn of text in another language."""
        check_language(config.language, texts.train)

    def make_vocabulary(self) -> None:
        """Write the vocabulary that the model is moved onto."""
        c, s, t = self.config, self.source, self.texts
        self.stage("destination", lambda: make_destination(c, s, t, self.work / "tokenizer"))

    def verify(self, destination: LanguageModel) -> MoveResult:
        """Measure the teacher, agreement and the control; return the certificate."""
        c, s, t, teacher = self.config, self.source, self.texts, self.teacher
        if teacher is not None:
            self.stage("teacher figures", lambda: self.figures(teacher))
        given = (teacher or s, destination, t.held_out)
        self.stage("agreement", lambda: asdict(greedy_agreement(*given)))
        seconds = self.done["heal"]["seconds"]
        if c.control and seconds:
            healing = stages.control_of(c, s, t, seconds, self.progress)
            # A stage of its own, so that a resumed control goes on with the same steps.
            steps = self.stage("control plan", healing.plan, together=True)["num_steps"]
            checkpoint = self.work / "control.pt"
            self.stage("control", lambda: stages.control(healing, steps, checkpoint), together=True)
        return stages.certificate(c, t, self.done)

    def method(self) -> dict[str, Any]:
        """Return what was done, for the model's provenance."""
        return {
            "verb": self.config.verb,
            "init": self.done["transplant"]["init"],
            "heal": self.config.heal,
        }

    @classmethod
    def document(cls, result: MoveResult) -> Document:
        """Return the page."""
        return move_document(result)
