"""The loop that trains every draft: AdamW, checkpoints, Ctrl-C, the same result when resumed."""

import pickle
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from jeton.core.progress import NO_PROGRESS, Progress
from jeton.core.run import deferred_interrupt, disk_errors
from jeton.decoding.training.contract import Job
from jeton.errors import CorruptRunError

CHECKPOINT_S = 20.0
_PROBE_STEPS = 3
_WARM_UP = 20  # steps until the peak rate


@dataclass(frozen=True, slots=True)
class TrainPoint:
    """One point of the curve; the loss is smoothed."""

    step: int
    loss: float


@dataclass(frozen=True, slots=True)
class TrainResult:
    """What training did."""

    num_steps: int
    num_tokens: int
    seconds: float
    curve: list[TrainPoint] = field(default_factory=list)


def seconds_per_step(job: Job, clock: Callable[[], float] = time.monotonic) -> float:
    """Return the time of a step; gradients are thrown away, so that nothing has changed."""
    started = 0.0
    for step in range(_PROBE_STEPS + 1):
        if step == 1:  # the first one warms up
            started = clock()
        job.loss_of(step, 1 << 30).backward()
        job.module.zero_grad(set_to_none=True)
    return (clock() - started) / _PROBE_STEPS


def train(
    job: Job,
    num_steps: int,
    *,
    checkpoint: Path | None = None,
    progress: Progress = NO_PROGRESS,
) -> TrainResult:
    """Train up to a number of steps, from the checkpoint when there is one.

    Raises:
        CorruptRunError: the checkpoint is damaged, or of another job.
        KeyboardInterrupt: after Ctrl-C, with the last finished step saved.
    """
    parameters = [p for p in job.module.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr=job.lr, betas=(0.9, 0.98), weight_decay=0.0)
    first, before, curve, average = 0, 0.0, [], None
    if checkpoint is not None and checkpoint.is_file():
        state = _read(checkpoint, num_steps)
        try:
            job.module.load_state_dict(state["module"])
            optimizer.load_state_dict(state["optimizer"])
        except (RuntimeError, ValueError) as error:
            raise CorruptRunError(
                f"{checkpoint} belongs to another training run", hint="start with another --out"
            ) from error
        first, before, average = state["step"], state["seconds"], state["average"]
        curve = [TrainPoint(*point) for point in state["curve"]]
    started = saved = time.monotonic()
    step = first

    def save() -> None:
        if checkpoint is not None:
            document = {
                "num_steps": num_steps,
                "module": job.module.state_dict(),
                "optimizer": optimizer.state_dict(),
                "step": step,
                "seconds": before + time.monotonic() - started,
                "average": average,
                "curve": [(point.step, point.loss) for point in curve],
            }
            _write(document, checkpoint)

    every = max(1, num_steps // 50)
    with deferred_interrupt() as interrupt:
        for _ in progress.track(range(first, num_steps), num_steps - first, "training", "step"):
            for group in optimizer.param_groups:
                group["lr"] = job.lr * _factor(step, num_steps)
            loss = job.loss_of(step, num_steps)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(parameters, 1.0)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            step += 1
            value = float(loss.detach())
            average = value if average is None else 0.95 * average + 0.05 * value
            if step % every == 0 or step == num_steps:
                curve.append(TrainPoint(step, average))
            if interrupt.requested or time.monotonic() - saved > CHECKPOINT_S:
                save()
                saved = time.monotonic()
            interrupt.raise_if_requested()
    seconds = before + time.monotonic() - started
    if step > first:
        save()
    return TrainResult(step, step * job.tokens_per_step, seconds, curve)


def _factor(step: int, num_steps: int) -> float:
    """Return the factor of the peak rate: warm up, hold for half, fall to zero."""
    left = (num_steps - step) / max(1.0, 0.5 * num_steps)
    return min(1.0, (step + 1) / min(_WARM_UP, max(1, num_steps // 10)), left)


def _write(document: dict[str, Any], path: Path) -> None:
    partial = path.with_name(path.name + ".partial")
    with disk_errors(path):
        try:
            with partial.open("wb") as file:
                torch.save(document, file)
            partial.replace(path)
        except BaseException:
            partial.unlink(missing_ok=True)
            raise


def _read(path: Path, num_steps: int) -> dict[str, Any]:
    try:
        state = torch.load(path, weights_only=True)
    except (RuntimeError, EOFError, pickle.UnpicklingError) as error:
        raise CorruptRunError(
            f"{path} is damaged: {error}", hint="delete it to train again from the start"
        ) from error
    if not isinstance(state, dict) or state.get("num_steps") != num_steps:
        raise CorruptRunError(
            f"{path} belongs to another training run", hint="start again with another --out"
        )
    return state
