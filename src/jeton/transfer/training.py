"""The training loop of every healer: steps, schedule, micro-batches, checkpoints, the curve.

A healer is a set of options and an `Objective`: a loss and the parameters that it moves. What is
here is the same for all of them, and so is the law that it keeps: a run that was killed and
started again ends with the weights of one that was not.
"""

import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any, ClassVar, NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor

from jeton.core.run import deferred_interrupt
from jeton.errors import ConfigError, CorruptRunError
from jeton.transfer.checkpoint import read_checkpoint, write_checkpoint
from jeton.transfer.contract import HealInput, HealPoint, HealResult
from jeton.transfer.damping import damp
from jeton.transfer.distributed import Workers
from jeton.transfer.forward import cross_entropy_sum

NATS_TO_BITS = 1.4426950408889634
_WARM_STEPS = 10
_PRECISIONS = ("auto", "float32", "bfloat16")
_CPU_MEMORY = ("can't allocate memory", "not enough memory")


@dataclass(frozen=True, slots=True)
class TrainingOptions:
    """Options of every healer.

    Attributes:
        lr_embeddings: Peak learning rate of the embedding and output matrices.
        lr_body: Peak learning rate of everything else.
        damping: Share of an embedding matrix's root mean square gradient that is added to that of
            each entry, so that rows of rare tokens, whose gradients are small and mostly noise,
            move less than those of frequent ones; 0 is plain AdamW.
        batch_tokens: Tokens per optimizer step.
        micro_tokens: Tokens per forward; bounds the memory.
        length: Tokens per row; the model's own limit where that is smaller.
        replay: Share of the rows that are general text, when there is any.
        compile: Whether `torch.compile` fuses the loss: a third faster on a CPU after half a
            minute of compiling; needs a C++ compiler.
        precision: Of the products: "auto" takes bfloat16 where the machine is faster in it,
            "float32", "bfloat16". Weights stay in float32.
        checkpoint_s: Seconds between checkpoints.
    """

    lr_embeddings: float = 1e-2
    lr_body: float = 5e-4
    damping: float = 0.25
    batch_tokens: int = 4096
    micro_tokens: int = 2048
    length: int = 1024
    replay: float = 0.25
    compile: bool = False
    precision: str = "auto"
    checkpoint_s: float = 20.0

    needs_teacher: ClassVar[bool] = False

    def __post_init__(self) -> None:
        if not 0 <= self.replay < 1:
            raise ConfigError(f"replay must lie in [0, 1), got {self.replay}")
        if self.damping < 0:
            raise ConfigError(f"damping must be 0 or more, got {self.damping}")
        if min(self.lr_embeddings, self.lr_body) < 0:
            raise ConfigError(
                f"learning rates must be 0 or more, got {self.lr_embeddings} and {self.lr_body}"
            )
        if min(self.batch_tokens, self.micro_tokens, self.length) < 1:
            raise ConfigError("batch_tokens, micro_tokens and length must be positive")
        if self.precision not in _PRECISIONS:
            raise ConfigError(
                f"precision must be one of {', '.join(_PRECISIONS)}; got {self.precision!r}"
            )


class Group(NamedTuple):
    """Parameters with one peak learning rate, which rest until a share of the steps is done."""

    parameters: Sequence[Tensor]
    lr: float
    begins_at: float = 0.0


@dataclass(frozen=True, slots=True)
class Batch:
    """Rows of text.

    Attributes:
        token_ids: Ids of the destination, shape (rows, length + 1).
        starts: Where each row begins in its text.
        is_replay: Whether a row is of `replay_ids` instead of `token_ids`.
    """

    token_ids: Tensor
    starts: list[int]
    is_replay: list[bool]

    def part(self, rows: slice) -> "Batch":
        """Return some of the rows."""
        return Batch(self.token_ids[rows], self.starts[rows], self.is_replay[rows])


class Objective(Protocol):
    """What a healer minimises, and by moving what."""

    def groups(self) -> list[Group]:
        """Return the parameters to train; what is in no group stays as it is."""
        ...

    def stride(self, length: int) -> int:
        """Return the distance between places where rows of a length may begin; 1 for anywhere."""
        ...

    def loss(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Return two sums over the batch's tokens: the loss, and the cross-entropy in nats."""
        ...


class LanguageModelLoss:
    """The objective of every healer that needs no teacher.

    Args:
        options: Of the healer.
        model: The destination model.
        groups: What it moves.
    """

    def __init__(self, options: TrainingOptions, model: Any, groups: list[Group]) -> None:
        self.options, self.model, self._groups = options, model, groups
        self._summed = maybe_compiled(cross_entropy_sum, options)

    def groups(self) -> list[Group]:
        """Return the parameters to train."""
        return self._groups

    def stride(self, length: int) -> int:
        """Return 1: rows begin anywhere."""
        return 1

    def loss(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Return the cross-entropy in nats twice."""
        rows = batch.token_ids.to(self.model.device)
        loss = self._summed(self.model, rows, self.options.precision)
        return loss, loss.detach()


def train(options: TrainingOptions, inputs: HealInput, objective: Objective) -> HealResult:
    """Train `inputs.model` in place up to `inputs.num_steps`, from the checkpoint if there is one.

    Raises:
        ConfigError: too little text, or not even one row fits into memory.
        CorruptRunError: the checkpoint is damaged or of other options or text.
    """
    return _Run(options, inputs, objective).train()


def embedding_parameters(model: Any) -> list[Tensor]:
    """Return the input and output matrices with their biases, shared ones once."""
    modules = (model.get_input_embeddings(), model.get_output_embeddings())
    wanted = {id(m.weight) for m in modules if m is not None}
    return [p for p in model.parameters() if id(p) in wanted]


def body_parameters(model: Any) -> list[Tensor]:
    """Return all parameters but the embeddings."""
    taken = {id(p) for p in embedding_parameters(model)}
    return [p for p in model.parameters() if id(p) not in taken]


def row_length(model: Any, options: TrainingOptions, num_ids: int) -> int:
    """Return how many tokens of a row are predicted.

    Raises:
        ConfigError: there is too little text.
    """
    limit = getattr(model.config.get_text_config(decoder=True), "max_position_embeddings", None)
    length = min(options.length, limit or options.length, num_ids - 1)
    if length < 8:
        raise ConfigError(
            f"healing needs more text: {num_ids} tokens were given",
            hint="give more --text, or --steps 0",
        )
    return length


def maybe_compiled(function: Callable[..., Any], options: TrainingOptions) -> Callable[..., Any]:
    """Return a function, compiled when the options ask for it."""
    return torch.compile(function) if options.compile else function


class _Run:
    """One healing run: model, optimizer, position and curve, saved together."""

    def __init__(self, options: TrainingOptions, inputs: HealInput, objective: Objective) -> None:
        self.options, self.inputs, self.model = options, inputs, inputs.model
        self.objective = objective
        self.length = row_length(self.model, options, len(inputs.token_ids))
        self.rows = max(1, options.batch_tokens // self.length)
        self.micro_rows = max(1, options.micro_tokens // self.length)
        self.stride = objective.stride(self.length)
        self.embeddings = {id(p) for p in embedding_parameters(self.model)}
        self.groups = list(self._groups())
        self.optimizer = torch.optim.AdamW(
            [{"params": list(group.parameters)} for group in self.groups],
            lr=0.0,
            betas=(0.9, 0.98),
            weight_decay=0.0,
            fused=True,  # a quarter of the time of `foreach` on a CPU
        )
        lengths = [len(token) for token in inputs.vocabulary.tokens]
        self.token_bytes = torch.tensor(lengths, dtype=torch.long)
        self.workers = Workers.here()
        self.step, self.seconds, self.num_bytes = 0, 0.0, 0
        self.average: float | None = None
        self.curve: list[HealPoint] = []

    def train(self) -> HealResult:
        self._load()
        steps = range(self.step, self.inputs.num_steps)
        saved_at = started = time.monotonic()
        before = self.seconds
        with _trainable(self.model), deferred_interrupt() as interrupt:
            for _ in self.inputs.progress.track(steps, len(steps), "healing", "step"):
                self._one_step()
                now = time.monotonic()
                self.seconds = before + now - started
                self._note_point()
                interrupt.requested = self.workers.any(interrupt.requested)
                if interrupt.requested or now - saved_at > self.options.checkpoint_s:
                    self._save()
                    saved_at = now
                interrupt.raise_if_requested()
        if len(steps):
            self._save()
        return HealResult(
            num_steps=self.step,
            num_tokens=self.step * self.rows * self.length,
            num_bytes=self.num_bytes,
            seconds=self.seconds,
            curve=self.curve,
        )

    def _groups(self) -> Iterator[Group]:
        """Yield the objective's groups, each embedding matrix in one of its own."""
        for group in self.objective.groups():
            for parameter in group.parameters:
                if id(parameter) in self.embeddings:
                    yield group._replace(parameters=[parameter])
            rest = [p for p in group.parameters if id(p) not in self.embeddings]
            if rest:
                yield group._replace(parameters=rest)

    def _one_step(self) -> None:
        done = self.step / max(1, self.inputs.num_steps)
        warm = min(1.0, (self.step + 1) / _WARM_STEPS)
        factor = warm * min(1.0, 1.25 * (1 - done))  # hold for a fifth, then fall to zero
        for parameter in self.model.parameters():
            parameter.requires_grad_(False)
        for group, state in zip(self.groups, self.optimizer.param_groups, strict=True):
            is_awake = done >= group.begins_at
            state["lr"] = group.lr * factor if is_awake else 0.0
            for parameter in group.parameters:
                parameter.requires_grad_(is_awake)
        batch = self._batch()
        nats = self._backward_in_parts(self.workers.share(batch))
        self.workers.sum_gradients(self.model.parameters())
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        damp(self.optimizer, self.embeddings, self.options.damping)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        size_bytes = int(self.token_bytes[batch.token_ids[:, 1:]].sum())
        self.num_bytes += size_bytes
        bits = self.workers.sum(nats) * NATS_TO_BITS / max(1, size_bytes)
        self.average = bits if self.average is None else 0.9 * self.average + 0.1 * bits
        self.step += 1

    def _backward_in_parts(self, batch: Batch) -> float:
        """Add up the gradients of a batch, in smaller parts when memory runs out."""
        while True:
            try:
                return self._backward(batch)
            except (RuntimeError, MemoryError) as error:
                if not _is_out_of_memory(error):
                    raise
                reason = str(error).splitlines()[0]
            self.optimizer.zero_grad(set_to_none=True)
            if self.micro_rows == 1:
                raise ConfigError(
                    f"one row of {self.length} tokens does not fit into memory: {reason}",
                    hint=f"shorter rows: --set METHOD.length={self.length // 2}",
                )
            self.micro_rows = max(1, min(self.micro_rows, len(batch.starts)) // 2)
            warnings.warn(
                f"out of memory in healing; going on with {self.micro_rows} rows of {self.length} "
                f"tokens at once (--set METHOD.micro_tokens={self.micro_rows * self.length})",
                stacklevel=2,
            )

    def _backward(self, batch: Batch) -> float:
        nats = 0.0
        for start in range(0, len(batch.starts), self.micro_rows):
            part = batch.part(slice(start, start + self.micro_rows))
            loss, cross_entropy = self.objective.loss(part)
            (loss / (self.rows * self.length)).backward()
            nats += cross_entropy.item()
        return nats

    def _batch(self) -> Batch:
        """Return the rows of a step: a function of the seed and the step alone."""
        rng = np.random.default_rng([self.inputs.seed, self.step])
        rows, starts, is_replay = [], [], []
        for _ in range(self.rows):
            use_replay = rng.random() < self.options.replay
            replay = self.inputs.replay_ids
            has_replay = replay is not None and len(replay) > self.length
            is_replay.append(use_replay and has_replay)
            ids = replay if is_replay[-1] and replay is not None else self.inputs.token_ids
            start = int(rng.integers(0, len(ids) - self.length))
            starts.append(start - start % self.stride)
            rows.append(ids[starts[-1] : starts[-1] + self.length + 1])
        return Batch(torch.stack(rows), starts, is_replay)

    def _note_point(self) -> None:
        every = max(1, self.inputs.num_steps // 100)
        if self.average is not None and (self.step % every == 0 or self.step == 1):
            self.curve.append(HealPoint(self.step, round(self.seconds, 3), self.average))

    def _fingerprint(self) -> dict[str, Any]:
        return {
            "options": {k: v for k, v in asdict(self.options).items() if k != "checkpoint_s"},
            "num_steps": self.inputs.num_steps,
            "seed": self.inputs.seed,
            "num_tokens": len(self.inputs.token_ids),
            "num_processes": self.workers.count,
        }

    def _save(self) -> None:
        path = self.inputs.checkpoint
        if path is None or self.workers.rank > 0:
            return
        state = {
            "fingerprint": self._fingerprint(),
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "micro_rows": self.micro_rows,
            "step": self.step,
            "seconds": self.seconds,
            "num_bytes": self.num_bytes,
            "average": self.average,
            "curve": [asdict(point) for point in self.curve],
        }
        write_checkpoint(state, path)

    def _load(self) -> None:
        path = self.inputs.checkpoint
        if path is None or not path.is_file():
            return
        state = read_checkpoint(path)
        if state.get("fingerprint") != self._fingerprint():
            raise CorruptRunError(
                f"{path} belongs to a healing run with other options or text",
                hint="start again with another --out",
            )
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.step, self.seconds = state["step"], state["seconds"]
        self.num_bytes, self.average = state["num_bytes"], state["average"]
        self.micro_rows = state["micro_rows"]
        self.curve = [HealPoint(**point) for point in state["curve"]]


class _trainable:  # noqa: N801 - used as a context manager only
    """Leave the model as it came: in eval mode (no dropout), gradients switched back."""

    def __init__(self, model: Any) -> None:
        self.model = model

    def __enter__(self) -> None:
        self.was_training = self.model.training
        self.flags = [p.requires_grad for p in self.model.parameters()]
        self.model.eval()

    def __exit__(self, *_: object) -> None:
        self.model.train(self.was_training)
        for parameter, flag in zip(self.model.parameters(), self.flags, strict=True):
            parameter.requires_grad_(flag)


def _is_out_of_memory(error: BaseException) -> bool:
    """Whether memory ran out; on a CPU torch says so in words only."""
    if isinstance(error, (torch.OutOfMemoryError, MemoryError)):
        return True
    return any(words in str(error) for words in _CPU_MEMORY)
