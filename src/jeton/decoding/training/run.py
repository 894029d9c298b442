"""Train a draft in a run folder: text, figures before, steps, figures after."""

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

import torch

from jeton.core.progress import NO_PROGRESS, Progress
from jeton.core.run import RunFolder, environment, to_json
from jeton.core.texts import read_texts
from jeton.decoding.registry import DRAFTERS
from jeton.decoding.replay import replay
from jeton.decoding.training.config import DraftTrainConfig
from jeton.decoding.training.contract import DRAFT_MODEL, Job, TrainInput
from jeton.decoding.training.loop import TrainPoint, seconds_per_step, train
from jeton.decoding.training.registry import DRAFT_TRAINERS
from jeton.decoding.tune import total
from jeton.errors import ConfigError, InputError
from jeton.lm.load import LanguageModel, load_model

SCHEMA_VERSION = 1
_PROMPT, _DECODED = 128, 64  # tokens per held-out piece
_DRAFTED = 4  # per step of the figures


@dataclass(frozen=True, slots=True)
class DraftTrained:
    """What a training made.

    Attributes:
        method: Name of the trainer.
        makes: What reads the result.
        folder: With the weights.
        num_steps: Steps of the optimizer.
        num_tokens: Read in training.
        seconds: Of training.
        before: Figures on held-out text at the start: tokens per step and acceptance rate of the
            draft when the text is replayed, or what the method measures instead.
        after: The same figures at the end.
        curve: The loss.
        environment: Versions and machine.
    """

    method: str
    makes: str
    folder: str
    num_steps: int
    num_tokens: int
    seconds: float
    before: dict[str, float]
    after: dict[str, float]
    curve: list[TrainPoint]
    environment: dict[str, str]
    schema_version: int = SCHEMA_VERSION


def train_draft(
    config: DraftTrainConfig,
    *,
    progress: Progress = NO_PROGRESS,
    load: Callable[..., LanguageModel] = load_model,
) -> DraftTrained:
    """Train a draft for a target and measure what it is worth.

    Args:
        config: What is asked.
        progress: Where to report.
        load: Gives the models; for tests.
    Raises:
        ConfigError: an option is wrong, or `out` is not empty.
        InputError: text is missing, empty or too short.
        UnsupportedModelError, CheckpointError, TokenizerError: a model cannot be used.
    """
    run = _Run(config, progress, load)
    folder = RunFolder.create(config.out, asdict(config), run.hashes)
    return run.finish(folder)


def resume_draft(
    path: Path,
    *,
    progress: Progress = NO_PROGRESS,
    load: Callable[..., LanguageModel] = load_model,
) -> DraftTrained:
    """Finish the training that a folder holds.

    Raises:
        ConfigError: the folder holds no such run.
        CorruptRunError: it is damaged, or the text changed since.
    """
    folder = RunFolder.resume(path)
    config = replace(DraftTrainConfig.from_json(folder.document()["config"]), out=path)
    run = _Run(config, progress, load)
    folder.check_unchanged(run.hashes)
    return run.finish(folder)


class _Run:
    """Everything that is read before the folder is touched."""

    def __init__(
        self, config: DraftTrainConfig, progress: Progress, load: Callable[..., LanguageModel]
    ) -> None:
        self.config, self.progress = config, progress
        self.trainer = DRAFT_TRAINERS.create(config.method, config.method_options)
        if self.trainer.needs_draft != bool(config.draft_model):
            raise ConfigError(
                f"{config.method} trains a draft model further, and none was given"
                if self.trainer.needs_draft
                else f"{config.method} makes its own draft, but a draft model was given",
                hint="--draft-model FOLDER is for the methods that need one",
            )
        collection = read_texts(list(config.text), limit_bytes=config.max_text_bytes)
        self.hashes = collection.hashes()
        if config.held_out:
            held_out = read_texts(list(config.held_out), limit_bytes=config.max_text_bytes)
            texts, held = collection, held_out
        else:
            texts, held, _ = collection.split()
        self.target = load(config.target, dtype="float32")
        draft = load(config.draft_model, dtype="float32") if config.draft_model else None
        for parameter in self.target.model.parameters():
            parameter.requires_grad_(False)
        self.inputs = TrainInput(self.target, _joined(self.target, texts), draft, config.seed)
        self.pieces = _pieces(self.target, held, config.measure_tokens)

    def finish(self, folder: RunFolder) -> DraftTrained:
        """Do what is not done yet."""
        before_threads = torch.get_num_threads()
        if self.config.threads:
            torch.set_num_threads(self.config.threads)
        try:
            return self._finish(folder)
        finally:
            torch.set_num_threads(before_threads)

    def _finish(self, folder: RunFolder) -> DraftTrained:
        done = {item["stage"]: item["outcome"] for item in folder.items()}
        result_folder = folder.path / self.trainer.makes
        self.progress.stage("prepare")
        job = self.trainer.prepare(self.inputs)

        def stage(name: str, run: Callable[[], Any]) -> Any:
            if name not in done:
                self.progress.stage(name)
                done[name] = to_json(run())
                folder.append({"stage": name, "outcome": done[name]})
            return done[name]

        before = stage("before", lambda: self._measure(job, folder.path / "start"))
        num_steps = stage("plan", lambda: self._plan(job))
        self.progress.stage("train")
        checkpoint = folder.path / "checkpoint.pt"
        trained = train(job, num_steps, checkpoint=checkpoint, progress=self.progress)
        job.finish(result_folder)
        after = stage("after", lambda: self._measure(job, result_folder))
        result = DraftTrained(
            method=self.config.method,
            makes=self.trainer.makes,
            folder=str(result_folder),
            num_steps=trained.num_steps,
            num_tokens=trained.num_tokens,
            seconds=round(trained.seconds, 2),
            before=before,
            after=after,
            curve=trained.curve,
            environment=environment(),
        )
        folder.finish(result)
        checkpoint.unlink(missing_ok=True)
        return result

    def _plan(self, job: Job) -> int:
        """Turn minutes into steps, once, so that a resumed run does exactly the same."""
        if self.config.steps > 0:
            return self.config.steps
        return max(1, int(self.config.minutes * 60 / seconds_per_step(job)))

    def _measure(self, job: Job, folder: Path) -> dict[str, float]:
        """Return the figures of the job's module as it stands."""
        if job.measure is not None:
            return job.measure(self.pieces)
        job.finish(folder)
        return replay_figures(self.target, self.trainer.makes, folder, self.inputs, self.pieces)


def replay_figures(
    target: LanguageModel,
    makes: str,
    folder: Path,
    inputs: TrainInput,
    pieces: Sequence[list[int]],
) -> dict[str, float]:
    """Return tokens per step and acceptance rate of a trained draft on replayed text."""
    draft = load_model(folder, dtype="float32") if makes == DRAFT_MODEL else inputs.draft
    options: dict[str, Any] = {} if makes == DRAFT_MODEL else {"weights": str(folder)}
    method: Any = DRAFTERS.load(makes)
    if "min_confidence" in {option.name for option in fields(method)}:
        options["min_confidence"] = 0.0  # whole drafts, so that better ones show
    drafter = DRAFTERS.create(makes, options)
    figures = [
        replay(
            target,
            piece,
            num_prompt_tokens=max(1, len(piece) - _DECODED),
            drafter=drafter,
            num_draft_tokens=_DRAFTED,
            draft_model=draft,
            clock=time.thread_time,
        )
        for piece in pieces
    ]
    found = total(figures)
    return {
        "tokens_per_step": round(found.tokens_per_step, 4),
        "acceptance_rate": round(found.acceptance_rate, 4),
        "num_tokens": float(found.num_tokens),
    }


def _joined(target: LanguageModel, texts: Any) -> torch.Tensor:
    """Return the ids of all documents, with the end of text between them where there is one."""
    vocabulary = target.vocabulary
    between = [] if vocabulary.eos_token_id is None else [vocabulary.eos_token_id]
    parts = [torch.tensor([*between, *vocabulary.encode(text)]) for text in texts]
    if not sum(len(part) for part in parts):
        raise InputError("the text holds no tokens", hint="give more --text")
    return torch.cat(parts)


def _pieces(target: LanguageModel, texts: Any, num_tokens: int) -> list[list[int]]:
    """Return held-out pieces, one per document while there are enough of them."""
    longest = min(_PROMPT + _DECODED, target.max_length or _PROMPT + _DECODED)
    wanted = -(-num_tokens // _DECODED)
    documents = [target.vocabulary.encode(text[: 64 * longest]) for text in texts]
    documents = [ids for ids in documents if len(ids) >= 8]
    if not documents:
        raise InputError("the held-out text is too short", hint="give more --held-out text")
    pieces = []
    stride = max(1, len(documents) // wanted)
    for ids in documents[::stride][:wanted]:
        start = max(0, (len(ids) - longest) // 2)
        pieces.append(ids[start : start + longest])
    return pieces
