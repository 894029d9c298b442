"""Cross-entropy healing: the embeddings first, then the whole model, on the user's own text.

Source: the two-stage schedule common to vocabulary expansion (Mundra et al. 2024,
https://arxiv.org/abs/2407.05841; Csaki et al. 2023); the loss is the ordinary language-model loss.
Differs from the source: rows of general text (replay) are mixed into every batch, against
forgetting; dropout stays off, so that a resumed run is the same run.
Cost: one training step of the model per batch.
"""

import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from jeton.core.run import deferred_interrupt, disk_errors
from jeton.errors import ConfigError, CorruptRunError
from jeton.transfer.contract import HealInput, HealPoint, HealResult

NATS_TO_BITS = 1.4426950408889634


@dataclass(frozen=True, slots=True)
class CrossEntropy:
    """Options of the healer.

    Attributes:
        lr_embeddings: Peak learning rate of the embedding and output matrices.
        lr_body: Peak learning rate of everything else.
        embeddings_only: Share of the steps, at the start, that train the embeddings alone.
        batch_tokens: Tokens per optimizer step.
        micro_tokens: Tokens per forward; bounds the memory.
        length: Tokens per row; the model's own limit where that is smaller.
        compile: Whether `torch.compile` fuses the loss: a third faster on a CPU after half a
            minute of compiling; needs a C++ compiler.
        replay: Share of the rows that are general text, when there is any.
        checkpoint_s: Seconds between checkpoints.
    """

    lr_embeddings: float = 3e-3
    lr_body: float = 5e-4
    embeddings_only: float = 0.1
    batch_tokens: int = 4096
    micro_tokens: int = 2048
    length: int = 1024
    compile: bool = False
    replay: float = 0.25
    checkpoint_s: float = 20.0

    needs_teacher: ClassVar[bool] = False

    def __post_init__(self) -> None:
        if not 0 <= self.embeddings_only <= 1 or not 0 <= self.replay < 1:
            raise ConfigError(
                "embeddings_only must lie in [0, 1] and replay in [0, 1), got "
                f"{self.embeddings_only} and {self.replay}"
            )
        if min(self.batch_tokens, self.micro_tokens, self.length) < 1:
            raise ConfigError("batch_tokens, micro_tokens and length must be positive")

    def heal(self, inputs: HealInput) -> HealResult:
        """Train `inputs.model` in place; see `Healer.heal`."""
        return _Run(self, inputs).train()


class _Run:
    """One healing run: model, optimizer, position and curve, saved together."""

    def __init__(self, options: CrossEntropy, inputs: HealInput) -> None:
        self.options, self.inputs, self.model = options, inputs, inputs.model
        config = self.model.config.get_text_config(decoder=True)
        limit = getattr(config, "max_position_embeddings", None) or options.length
        self.length = min(options.length, limit, len(inputs.token_ids) - 1)
        if self.length < 8:
            raise ConfigError(
                f"healing needs more text: {len(inputs.token_ids)} tokens were given",
                hint="give more --text, or --heal-steps 0",
            )
        self.rows = max(1, options.batch_tokens // self.length)
        embeddings = {
            id(module.weight)
            for module in (self.model.get_input_embeddings(), self.model.get_output_embeddings())
            if module is not None
        }
        self.embeddings = [p for p in self.model.parameters() if id(p) in embeddings]
        self.body = [p for p in self.model.parameters() if id(p) not in embeddings]
        self.optimizer = torch.optim.AdamW(
            [{"params": self.embeddings}, {"params": self.body}],
            lr=0.0,
            betas=(0.9, 0.98),
            weight_decay=0.0,
            foreach=True,
        )
        lengths = [len(token) for token in inputs.vocabulary.tokens]
        self._summed_loss = torch.compile(_summed_loss) if options.compile else _summed_loss
        self.token_bytes = torch.tensor(lengths, dtype=torch.long)
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

    def _one_step(self) -> None:
        done = self.step / max(1, self.inputs.num_steps)
        warm = min(1.0, (self.step + 1) / 10)
        factor = warm * min(1.0, 1.25 * (1 - done))  # hold for a fifth, then fall to zero
        body_trains = done >= self.options.embeddings_only
        for parameter in self.body:
            parameter.requires_grad_(body_trains)
        self.optimizer.param_groups[0]["lr"] = self.options.lr_embeddings * factor
        self.optimizer.param_groups[1]["lr"] = self.options.lr_body * factor if body_trains else 0.0
        batch = self._batch()
        nats = 0.0
        for part in self._micro_batches(batch):
            loss = self._summed_loss(self.model, part.to(self.model.device))
            (loss / (self.rows * self.length)).backward()
            nats += loss.item()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        size_bytes = int(self.token_bytes[batch[:, 1:]].sum())
        self.num_bytes += size_bytes
        bits = nats * NATS_TO_BITS / max(1, size_bytes)
        self.average = bits if self.average is None else 0.9 * self.average + 0.1 * bits
        self.step += 1

    def _batch(self) -> Tensor:
        """Return ids, shape (rows, length + 1): a function of the seed and the step alone."""
        rng = np.random.default_rng([self.inputs.seed, self.step])
        rows = []
        for _ in range(self.rows):
            use_replay = rng.random() < self.options.replay
            replay = self.inputs.replay_ids
            ids = self.inputs.token_ids
            if use_replay and replay is not None and len(replay) > self.length:
                ids = replay
            start = int(rng.integers(0, len(ids) - self.length))
            rows.append(ids[start : start + self.length + 1])
        return torch.stack(rows)

    def _micro_batches(self, batch: Tensor) -> Iterator[Tensor]:
        yield from batch.split(max(1, self.options.micro_tokens // self.length))

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
        }

    def _save(self) -> None:
        path = self.inputs.checkpoint
        if path is None:
            return
        state = {
            "fingerprint": self._fingerprint(),
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "step": self.step,
            "seconds": self.seconds,
            "num_bytes": self.num_bytes,
            "average": self.average,
            "curve": [asdict(point) for point in self.curve],
        }
        partial = path.with_name(path.name + ".partial")
        with disk_errors(path):
            try:
                _write(state, partial)
                partial.replace(path)
            except BaseException:
                partial.unlink(missing_ok=True)
                raise

    def _load(self) -> None:
        path = self.inputs.checkpoint
        if path is None or not path.is_file():
            return
        state = _read_checkpoint(path)
        if state.get("fingerprint") != self._fingerprint():
            raise CorruptRunError(
                f"{path} belongs to a healing run with other options or text",
                hint="start again with another --out",
            )
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.step, self.seconds = state["step"], state["seconds"]
        self.num_bytes, self.average = state["num_bytes"], state["average"]
        self.curve = [HealPoint(**point) for point in state["curve"]]


def _summed_loss(model: Any, batch: Tensor) -> Tensor:
    """Return the cross-entropy of a batch in nats, summed; batch has shape (rows, length + 1)."""
    with torch.autocast(model.device.type, torch.bfloat16, enabled=_bf16_pays(model)):
        logits = model(input_ids=batch[:, :-1], use_cache=False).logits
    return functional.cross_entropy(
        logits.flatten(0, 1).float(), batch[:, 1:].flatten(), reduction="sum"
    )


def _write(state: dict[str, Any], path: Path) -> None:
    """Save a state; a full disk is an OSError, not what torch makes of it while it unwinds."""
    try:
        with path.open("wb") as file:
            torch.save(state, file)
    except RuntimeError as error:
        if isinstance(error.__context__, OSError):
            raise error.__context__ from error
        raise


def _read_checkpoint(path: Path) -> dict[str, Any]:
    import pickle

    try:
        state = torch.load(path, weights_only=True)
    except (RuntimeError, EOFError, pickle.UnpicklingError) as error:
        raise CorruptRunError(
            f"{path} is damaged: {error}", hint="delete it to heal again from the start"
        ) from error
    if not isinstance(state, dict):
        raise CorruptRunError(f"{path} is not a healing checkpoint")
    return state


class _trainable:  # noqa: N801 - used as a context manager only
    """Leave the model as it came: in eval mode (no dropout), gradients switched back."""

    def __init__(self, model: Any) -> None:
        self.model = model

    def __enter__(self) -> None:
        self.was_training = self.model.training
        self.flags = [p.requires_grad for p in self.model.parameters()]
        self.model.eval()
        for parameter in self.model.parameters():
            parameter.requires_grad_(True)

    def __exit__(self, *_: object) -> None:
        self.model.train(self.was_training)
        for parameter, flag in zip(self.model.parameters(), self.flags, strict=True):
            parameter.requires_grad_(flag)


def _bf16_pays(model: Any) -> bool:
    """Whether bf16 products are faster here: GPUs, and CPUs that have AMX."""
    if model.device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported())
    return bool(torch.cpu._is_amx_tile_supported())
