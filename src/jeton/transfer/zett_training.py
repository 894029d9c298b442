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
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from torch import Tensor
from torch.nn import functional

from jeton.core.progress import NO_PROGRESS, Progress
from jeton.core.run import deferred_interrupt
from jeton.core.vocabulary import Vocabulary
from jeton.errors import ConfigError, CorruptRunError, UnsupportedModelError
from jeton.transfer.checkpoint import read_checkpoint, write_checkpoint
from jeton.transfer.hypernetwork import (
    Hypernetwork,
    HypernetworkConfig,
    fingerprint,
    pad_parts,
    side_by_side,
)
from jeton.transfer.initializers.ridge import decompose_own
from jeton.transfer.matching import Match, match_tokens

_SAMPLE_BYTES = 400_000  # text of one tokenizer: a second of training it
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


@dataclass(frozen=True)
class _Sampled:
    """One sampled tokenizer with text encoded by it."""

    vocabulary: Vocabulary
    matches: list[Match]
    stream: Tensor  # (tokens,), only tokens that the source can spell


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
        embedding, head = model.get_input_embeddings(), model.get_output_embeddings()
        is_tied = head is None or head.weight is embedding.weight
        rows = side_by_side(
            embedding.weight.detach()[: source.vocab_size],
            None if is_tied else head.weight.detach()[: source.vocab_size],
        )
        self.rows, self.hidden, self.is_tied = rows, embedding.weight.shape[1], is_tied
        self.input_scale = _input_scale(model, rows[:8, : self.hidden])
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
                            sampled, sampled_for = self._sample_tokenizer(number), number
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

    def _sample_tokenizer(self, number: int) -> _Sampled:
        """Train a tokenizer on a random sample of the text; a function of seed and number."""
        rng = np.random.default_rng([self.seed, 2, number])
        documents, size = [], 0
        for index in rng.permutation(len(self.texts)):
            text = self.texts[int(index)]
            start = int(rng.integers(0, max(1, len(text) - 20_000)))
            documents.append(text[start : start + 20_000])
            size += len(documents[-1])
            if size > _SAMPLE_BYTES:
                break
        bounds = np.log([self.options.min_vocab, self.options.max_vocab])
        vocab_size = int(np.exp(rng.uniform(*bounds)))
        is_unigram, as_source = rng.random(2) < (self.options.unigram, 0.5)
        own = self.source.pre_tokenizer if as_source and self.source.has_all_bytes else None
        sampled = _train_tokenizer(documents, vocab_size, own, is_unigram=bool(is_unigram))
        vocabulary = Vocabulary.from_tokenizer_json(sampled.to_str())
        matches = match_tokens(self.source, vocabulary)
        ids = [torch.tensor(ids) for ids in vocabulary.encode_batch(documents)]
        spelled = torch.tensor([bool(match.source_ids) for match in matches])
        stream = torch.cat(ids)
        return _Sampled(vocabulary, matches, stream[spelled[stream]])

    def _text_loss(self, sampled: _Sampled, step: int) -> Tensor:
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
        rows = self._rows_of([sampled.matches[i] for i in candidates.tolist()])
        logits = self._logits(rows, local[:, :-1])
        if len(drawn):  # a drawn type stands for others / drawn of them
            logits[..., len(types) :] += float(np.log(len(others) / len(drawn)))
        nats = functional.cross_entropy(logits.flatten(0, 1), local[:, 1:].flatten())
        self._note(float(nats.detach()), sampled, batch, step)
        if self.options.mimic:
            nats = nats + self.options.mimic * self._mimic_loss(step)
        return nats

    def _logits(self, rows: Tensor, local: Tensor) -> Tensor:
        """Return logits over the candidate rows, shape (batch, length, candidates)."""
        embedded = functional.embedding(local, rows[:, : self.hidden]) * self.input_scale
        body = self.model.get_decoder() if hasattr(self.model, "get_decoder") else None
        if body is None:
            raise UnsupportedModelError(f"{type(self.model).__name__} names no decoder")
        embedded = embedded.to(self.model.dtype)
        hidden = body(inputs_embeds=embedded, use_cache=False).last_hidden_state
        output = rows[:, : self.hidden] if self.is_tied else rows[:, self.hidden :]
        logits: Tensor = (hidden @ output.to(hidden.dtype).T).float()
        return logits

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

    def _note(self, nats: float, sampled: _Sampled, batch: Tensor, step: int) -> None:
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


def _train_tokenizer(
    documents: Sequence[str], vocab_size: int, own: dict[str, Any] | None, *, is_unigram: bool
) -> Tokenizer:
    """Return a byte-level tokenizer of about this size; `own` is the source's pre-tokenizer."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    trainer: Any
    if is_unigram:
        tokenizer = Tokenizer(models.Unigram())
        trainer = trainers.UnigramTrainer(
            vocab_size=vocab_size, initial_alphabet=alphabet, show_progress=False
        )
    else:
        tokenizer = Tokenizer(models.BPE())
        trainer = trainers.BpeTrainer(
            vocab_size=vocab_size, initial_alphabet=alphabet, show_progress=False
        )
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    if own is not None and "ByteLevel" in json.dumps(own):
        document = json.loads(tokenizer.to_str())
        tokenizer = Tokenizer.from_str(json.dumps({**document, "pre_tokenizer": own}))
    tokenizer.train_from_iterator(documents, trainer)
    return tokenizer


def _input_scale(model: Any, rows: Tensor) -> float:
    """Return by what the model's own embedding layer multiplies its rows (Gemma: sqrt(hidden))."""
    embedding = model.get_input_embeddings()
    with torch.inference_mode():
        given = embedding(torch.arange(len(rows))).float()
    scale = float((given * rows).sum() / (rows * rows).sum())
    if not torch.allclose(given, rows * scale, rtol=1e-2, atol=1e-4):
        raise UnsupportedModelError(
            f"{type(model).__name__} does more to its embeddings than to scale them",
            hint="use an initializer that needs no training",
        )
    return scale
