"""Train a hypernetwork for a base model: sample a tokenizer, predict its rows, model text with it.

Source: Minixhofer et al. 2024, "Zero-Shot Tokenizer Transfer", https://arxiv.org/abs/2405.07883,
algorithm 1 and sections 3.1 to 3.3.
Differs from the source: tokenizers are byte-level BPE or Unigram models of random size trained on a
random sample of the text and kept for some steps; the softmax runs over the batch's tokens and a
weighted sample of the others; the warm-up predicts the source's own rows from their merges.
Cost: a forward and backward pass of the frozen model per step, and the network on its types.
"""

import json
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from jeton.core.progress import NO_PROGRESS, Progress
from jeton.core.run import deferred_interrupt
from jeton.core.vocabulary import Vocabulary
from jeton.errors import ConfigError, CorruptRunError, UnsupportedModelError
from jeton.transfer.checkpoint import read_checkpoint, write_checkpoint
from jeton.transfer.embeddings import body_of, input_scale, is_tied, read_matrices, rows_of
from jeton.transfer.hypernetwork import (
    Hypernetwork,
    HypernetworkConfig,
    fingerprint,
    pad_parts,
)
from jeton.transfer.initializers.ridge import decompose_own
from jeton.transfer.matching import Match
from jeton.transfer.tokenizer_sampling import Sampled, TokenizerSampler

_BUCKETS = (2, 4, 8, 16, 32)  # tokens of like length go through the network together


@dataclass(frozen=True, slots=True)
class ZettTraining:
    """Options.

    Attributes:
        steps: Optimizer steps on text.
        warmup_steps: Steps before them that predict the source's rows from their merges.
        lr: Peak learning rate, reached after 50 steps, then falling to a tenth along a cosine.
        batch: Rows of text per step.
        length: Tokens per row.
        steps_per_tokenizer: Steps before the next tokenizer is sampled.
        negatives: Types that no row holds and that still stand in the softmax.
        unigram: Share of the tokenizers that are Unigram models.
        min_vocab: Smallest sampled vocabulary.
        max_vocab: Largest sampled vocabulary.
        mimic: Weight of the loss that keeps shared tokens near their source rows.
        width: Of the network.
        num_layers: Of the network.
        checkpoint_s: Seconds between checkpoints.
    """

    steps: int = 1500
    warmup_steps: int = 200
    lr: float = 1e-3
    batch: int = 8
    length: int = 256
    steps_per_tokenizer: int = 12
    negatives: int = 768
    unigram: float = 0.3
    min_vocab: int = 2000
    max_vocab: int = 12000
    mimic: float = 0.1
    width: int = 256
    num_layers: int = 2
    checkpoint_s: float = 60.0

    def __post_init__(self) -> None:
        counts = (self.steps, self.batch, self.length, self.steps_per_tokenizer, self.negatives)
        if min(counts) < 1 or self.warmup_steps < 0 or self.lr <= 0 or self.mimic < 0:
            raise ConfigError(
                "steps, batch, length, steps_per_tokenizer, negatives and lr must be positive, "
                "warmup_steps and mimic not negative"
            )
        if not 260 <= self.min_vocab <= self.max_vocab or not 0 <= self.unigram <= 1:
            raise ConfigError(
                "vocabularies need 260 <= min_vocab <= max_vocab, unigram a share; got "
                f"{self.min_vocab}, {self.max_vocab} and {self.unigram}"
            )


@dataclass(frozen=True, slots=True)
class ZettResult:
    """What training did; `curve` holds (step, bits per byte of the batch, smoothed)."""

    steps: int
    seconds: float
    curve: list[tuple[int, float]] = field(default_factory=list)


def train_hypernetwork(
    model: Any,
    source: Vocabulary,
    texts: Sequence[str],
    options: ZettTraining | None = None,
    *,
    seed: int = 0,
    checkpoint: Path | None = None,
    progress: Progress = NO_PROGRESS,
) -> tuple[Hypernetwork, ZettResult]:
    """Return a hypernetwork for a model; the model is not changed.

    Args:
        model: A causal LM, in float32 or bfloat16.
        source: Its vocabulary.
        texts: Documents, from which both tokenizers and batches are drawn.
        options: None takes the defaults.
        seed: Of the network, the tokenizers and the batches.
        checkpoint: File that a killed run continues from; None keeps nothing.
        progress: Where to report.
    Raises:
        ConfigError: less text than a tokenizer needs.
        CorruptRunError: the checkpoint belongs to other options.
        UnsupportedModelError: the model takes no `inputs_embeds`.
    """
    run = _Run(model, source, texts, options or ZettTraining(), seed, checkpoint)
    return run.train(progress)


class _Run:
    def __init__(
        self,
        model: Any,
        source: Vocabulary,
        texts: Sequence[str],
        options: ZettTraining,
        seed: int,
        checkpoint: Path | None,
    ) -> None:
        self.model, self.source, self.options = model, source, options
        self.seed, self.checkpoint = seed, checkpoint
        self.texts = [text for text in texts if source.why_not_lossless(text) is None]
        if sum(map(len, self.texts)) < 20_000:
            raise ConfigError(
                "a hypernetwork needs at least 20 kB of text that the source can write",
                hint="give more --text",
            )
        embedding, head = read_matrices(model, source)
        self.is_tied, self.hidden = is_tied(embedding, head), embedding.weight.shape[1]
        self.rows = rows = rows_of(model, source)
        bias = getattr(head, "bias", None)
        self.bias = None if bias is None else bias.detach()[: source.vocab_size].float()
        self.softcap = getattr(model.config.get_text_config(), "final_logit_softcapping", None)
        self.input_scale = input_scale(model)
        self._check_logits()
        self.sampler = TokenizerSampler(
            source, self.texts, options.min_vocab, options.max_vocab, options.unigram
        )
        with torch.random.fork_rng(devices=[]):
            torch.random.manual_seed(seed)
            self.network = Hypernetwork(
                HypernetworkConfig(
                    columns=rows.shape[1],
                    source=fingerprint(source),
                    width=options.width,
                    num_layers=options.num_layers,
                    scale=float(rows.std()),
                )
            )
        self.own = sorted(decompose_own(source).items())
        self.optimizer = torch.optim.AdamW(self.network.parameters(), lr=0.0, weight_decay=0.01)
        self.step, self.seconds = 0, 0.0
        self.average: float | None = None
        self.curve: list[tuple[int, float]] = []

    def train(self, progress: Progress) -> tuple[Hypernetwork, ZettResult]:
        self._load()
        total = self.options.warmup_steps + self.options.steps
        saved_at = started = time.monotonic()
        before, sampled, sampled_for = self.seconds, None, -1
        flags = [parameter.requires_grad for parameter in self.model.parameters()]
        self.model.requires_grad_(False)
        self.network.train()
        try:
            with deferred_interrupt() as interrupt:
                todo = range(self.step, total)
                for step in progress.track(todo, len(todo), "training", "step"):
                    if step < self.options.warmup_steps:
                        loss = self._mimic_loss(step)
                    else:
                        number = (step - self.options.warmup_steps) // (
                            self.options.steps_per_tokenizer
                        )
                        if sampled is None or number != sampled_for:
                            sampled, sampled_for = self.sampler.sample(self.seed, number), number
                        loss = self._text_loss(sampled, step)
                    self._update(loss, step, total)
                    now = time.monotonic()
                    self.seconds = before + now - started
                    if interrupt.requested or now - saved_at > self.options.checkpoint_s:
                        self._save()
                        saved_at = now
                    interrupt.raise_if_requested()
        finally:
            for parameter, flag in zip(self.model.parameters(), flags, strict=True):
                parameter.requires_grad_(flag)
        self._save()
        return self.network.eval(), ZettResult(self.step, self.seconds, self.curve)

    def _update(self, loss: Tensor, step: int, total: int) -> None:
        done = step / max(1, total)
        factor = min(1.0, (step + 1) / 50) * (0.55 + 0.45 * float(np.cos(np.pi * done)))
        self.optimizer.param_groups[0]["lr"] = self.options.lr * factor
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.network.parameters(), 1.0)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.step = step + 1

    def _mimic_loss(self, step: int) -> Tensor:
        """Return the error of rows predicted from their merges, in units of the rows' spread."""
        rng = np.random.default_rng([self.seed, 1, step])
        chosen = [self.own[i] for i in rng.integers(0, len(self.own), 512)]
        chosen = [(i, parts) for i, parts in chosen if len(parts) <= self.network.config.max_parts]
        made = self.network(self.rows, pad_parts([parts for _, parts in chosen]))
        wanted = self.rows[torch.tensor([i for i, _ in chosen])]
        return functional.mse_loss(made, wanted) / self.network.config.scale**2

    def _text_loss(self, sampled: Sampled, step: int) -> Tensor:
        """Return the language-model loss of a batch under the sampled tokenizer, in nats."""
        options, rng = self.options, np.random.default_rng([self.seed, 3, step])
        length = min(options.length, len(sampled.stream) - 2)
        starts = rng.integers(0, len(sampled.stream) - length - 1, options.batch)
        batch = torch.stack([sampled.stream[s : s + length + 1] for s in starts])
        types, local = torch.unique(batch, return_inverse=True)
        others = np.setdiff1d(
            [i for i, match in enumerate(sampled.matches) if match.source_ids], types.numpy()
        )
        drawn = rng.permutation(others)[: options.negatives]
        candidates = torch.cat([types, torch.from_numpy(drawn.astype(np.int64))])
        matches = [sampled.matches[i] for i in candidates.tolist()]
        logits = self._logits(self._rows_of(matches), local[:, :-1], self._bias_of(matches))
        if len(drawn):  # a drawn type stands for others / drawn of them
            logits[..., len(types) :] += float(np.log(len(others) / len(drawn)))
        nats = functional.cross_entropy(logits.flatten(0, 1), local[:, 1:].flatten())
        self._note(float(nats.detach()), sampled, batch, step)
        if self.options.mimic:
            nats = nats + self.options.mimic * self._mimic_loss(step)
        return nats

    def _logits(self, rows: Tensor, local: Tensor, bias: Tensor | None) -> Tensor:
        """Return logits over the candidate rows, shape (batch, length, candidates)."""
        embedded = functional.embedding(local, rows[:, : self.hidden]) * self.input_scale
        inputs = embedded.to(self.model.dtype)
        hidden = body_of(self.model)(inputs_embeds=inputs, use_cache=False).last_hidden_state
        output = rows[:, : self.hidden] if self.is_tied else rows[:, self.hidden :]
        logits: Tensor = (hidden @ output.to(hidden.dtype).T).float()
        if bias is not None:
            logits = logits + bias
        return logits if not self.softcap else self.softcap * torch.tanh(logits / self.softcap)

    def _check_logits(self) -> None:
        """Raise unless `_logits` gives what the model itself gives."""
        ids = torch.arange(min(8, len(self.rows)))[None]
        with torch.inference_mode():
            own = self._logits(self.rows, ids, self.bias)
            wanted = self.model(input_ids=ids, use_cache=False).logits.float()[..., : own.shape[-1]]
        tolerance = 1e-3 if self.model.dtype == torch.float32 else 0.1
        if not torch.allclose(own, wanted, rtol=tolerance, atol=tolerance * float(wanted.std())):
            raise UnsupportedModelError(
                f"{type(self.model).__name__} does more than a product to give its logits",
                hint="use an initializer that needs no training",
            )

    def _bias_of(self, matches: Sequence[Match]) -> Tensor | None:
        """Return the output bias of tokens, the mean of their parts; None without one."""
        if self.bias is None:
            return None
        return torch.stack([self.bias[list(match.source_ids)].mean() for match in matches])

    def _rows_of(self, matches: Sequence[Match]) -> Tensor:
        """Return rows of tokens, with gradients where they are not the source's own."""
        rows = self.rows[torch.tensor([match.source_ids[0] for match in matches])]
        made: list[Tensor] = []
        places: list[int] = []
        below = 1
        for limit in _BUCKETS:
            bucket = [
                i
                for i, match in enumerate(matches)
                if below < len(match.source_ids) <= min(limit, self.network.config.max_parts)
            ]
            below = limit
            if bucket:
                parts = pad_parts([matches[i].source_ids for i in bucket])
                made.append(self.network(self.rows, parts))
                places += bucket
        longest = self.network.config.max_parts
        far = [i for i, match in enumerate(matches) if len(match.source_ids) > longest]
        if far:
            made.append(torch.stack([self.rows[list(matches[i].source_ids)].mean(0) for i in far]))
            places += far
        if not made:
            return rows
        return rows.index_copy(0, torch.tensor(places), torch.cat(made))

    def _note(self, nats: float, sampled: Sampled, batch: Tensor, step: int) -> None:
        lengths = torch.from_numpy(sampled.vocabulary.lengths)
        size_bytes = int(lengths[batch[:, 1:]].sum())
        bits = nats * batch[:, 1:].numel() / max(1, size_bytes) / float(np.log(2))
        self.average = bits if self.average is None else 0.95 * self.average + 0.05 * bits
        if step % 10 == 0:
            self.curve.append((step, self.average))

    def _fingerprint(self) -> dict[str, Any]:
        options = {k: v for k, v in asdict(self.options).items() if k != "checkpoint_s"}
        return {"options": options, "seed": self.seed, "columns": self.rows.shape[1]}

    def _save(self) -> None:
        if self.checkpoint is None:
            return
        state = {
            "fingerprint": self._fingerprint(),
            "network": self.network.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "step": self.step,
            "seconds": self.seconds,
            "average": self.average,
            "curve": json.dumps(self.curve),
        }
        write_checkpoint(state, self.checkpoint)

    def _load(self) -> None:
        if self.checkpoint is None or not self.checkpoint.is_file():
            return
        state = read_checkpoint(self.checkpoint)
        if state.get("fingerprint") != self._fingerprint():
            raise CorruptRunError(
                f"{self.checkpoint} belongs to a training with other options",
                hint="start again with another --out",
            )
        self.network.load_state_dict(state["network"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.step, self.seconds, self.average = state["step"], state["seconds"], state["average"]
        self.curve = [(int(step), float(bits)) for step, bits in json.loads(state["curve"])]
