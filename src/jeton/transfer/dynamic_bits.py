"""What reading with joined tokens costs: bits per byte of what follows, in the model's own tokens.

Every byte that is scored stands in the source's tokens, so that the figures of all settings are of
the same bytes and of one vocabulary; only what the model reads before them is joined. Beside it
stands the plain way to read fewer tokens: to leave the first ones out.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from jeton.core.progress import NO_PROGRESS, Progress
from jeton.errors import ConfigError
from jeton.transfer.dynamic import DynamicReader


@dataclass(frozen=True, slots=True)
class PrefillOptions:
    """Options.

    Attributes:
        read: Source tokens of a window that are read.
        scored: Source tokens behind them that are scored.
        batch: Windows that share their merges.
        max_windows: Most windows.
    """

    read: int = 512
    scored: int = 128
    batch: int = 8
    max_windows: int = 64

    def __post_init__(self) -> None:
        if min(self.read, self.scored, self.batch, self.max_windows) < 1:
            raise ConfigError("read, scored, batch and max_windows must be 1 or more")


@dataclass(frozen=True, slots=True)
class PrefillPoint:
    """Figures of one number of merges.

    Attributes:
        num_merges: That were asked for.
        reduction: Share of the tokens read that is saved, 0 <= reduction < 1.
        bits_per_byte: Of what follows, after reading joined tokens.
        cut_bits_per_byte: Of what follows, after reading only the last tokens, as many as that.
        cosine: Mean similarity of the last hidden states, joined against not joined.
    """

    num_merges: int
    reduction: float
    bits_per_byte: float
    cut_bits_per_byte: float
    cosine: float


@dataclass(frozen=True, slots=True)
class PrefillResult:
    """Figures by number of merges; `bits_per_byte` is that without any."""

    bits_per_byte: float
    num_windows: int
    num_bytes: int
    points: list[PrefillPoint]


def measure_prefill(
    reader: DynamicReader,
    texts: Sequence[str | bytes],
    merges: Sequence[int] = (100, 200, 400),
    options: PrefillOptions | None = None,
    progress: Progress = NO_PROGRESS,
) -> PrefillResult:
    """Score windows of the texts after reading their beginning with joined tokens.

    Args:
        reader: Its own number of merges is not used.
        texts: Documents; those shorter than a window are left out.
        merges: Numbers of merges.
        options: None takes the defaults.
        progress: Shown by number of merges.
    Raises:
        ConfigError: no document is as long as a window, or windows exceed the model's positions.
    """
    options = options or PrefillOptions()
    windows = _windows(reader, texts, options)
    heads = [window[: options.read] for window in windows]
    tails = [torch.tensor(window[options.read :]) for window in windows]
    num_bytes = sum(len(reader.lm.vocabulary.bytes_of(tail.tolist())) for tail in tails)
    to_bits = 1 / (num_bytes * math.log(2))
    plain, states = _score(reader, _embed(reader, heads, 0, options.batch), tails)
    points = []
    for number in progress.track(merges, len(merges), "prefill", "setting"):
        rows = _embed(reader, heads, number, options.batch)
        nats, found = _score(reader, rows, tails)
        kept = [head[-len(own) :] for head, own in zip(heads, rows, strict=True)]
        cut, _ = _score(reader, _embed(reader, kept, 0, options.batch), tails)
        points.append(
            PrefillPoint(
                num_merges=number,
                reduction=1 - sum(map(len, rows)) / sum(map(len, heads)),
                bits_per_byte=nats * to_bits,
                cut_bits_per_byte=cut * to_bits,
                cosine=float(functional.cosine_similarity(found, states).mean()),
            )
        )
    return PrefillResult(plain * to_bits, len(windows), num_bytes, points)


def _windows(
    reader: DynamicReader, texts: Sequence[str | bytes], options: PrefillOptions
) -> list[list[int]]:
    """Return windows of source ids, one after another in each document."""
    size, limit = options.read + options.scored, reader.lm.max_length
    if limit is not None and size > limit:
        raise ConfigError(
            f"windows of {size} tokens exceed the {limit} positions of {reader.lm.name}",
            hint="lower read or scored",
        )
    windows: list[list[int]] = []
    for ids in reader.lm.vocabulary.encode_batch(texts):
        for start in range(0, len(ids) - size + 1, size):
            windows.append(ids[start : start + size])
            if len(windows) == options.max_windows:
                return windows
    if not windows:
        raise ConfigError(
            f"no document has the {size} tokens of a window", hint="give longer text, or lower read"
        )
    return windows


def _embed(
    reader: DynamicReader, heads: Sequence[Sequence[int]], num_merges: int, batch: int
) -> list[Tensor]:
    """Return what the model reads, joined batch by batch."""
    rows: list[Tensor] = []
    for start in range(0, len(heads), batch):
        joined = reader.join(heads[start : start + batch], num_merges)
        rows += reader.embed(joined)
    return rows


def _score(
    reader: DynamicReader, heads: Sequence[Tensor], tails: Sequence[Tensor]
) -> tuple[float, Tensor]:
    """Return the nats of all tails, and the hidden states before their tokens."""
    model, nats, states = reader.lm.model, 0.0, []
    with torch.inference_mode():
        for head, tail in zip(heads, tails, strict=True):
            wanted = tail.to(head.device)
            given = torch.cat([head, model.get_input_embeddings()(wanted[:-1])])
            output = model(inputs_embeds=given[None], use_cache=False, output_hidden_states=True)
            logits = output.logits[0, -len(tail) :].double()
            nats += float(functional.cross_entropy(logits, wanted, reduction="sum"))
            states.append(output.hidden_states[-1][0, -len(tail) :].float())
    return nats, torch.cat(states)
