"""Bits per byte of a text under a model: exact for its windows, comparable across tokenizers.

The tokens of a text's canonical encoding are scored in strided windows. Each token is scored once,
with as much left context as the window has, so that every byte of the text is paid for exactly
once, the first ones included. The probabilities are those over all rows of the embedding matrix.
The end of the text is not scored.
"""

import inspect
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from jeton.core.progress import NO_PROGRESS, Progress
from jeton.errors import ConfigError, TokenizerMismatchError
from jeton.lm.load import LanguageModel
from jeton.lm.pack import widened

_DEFAULT_CONTEXT = 2048  # beyond it the gain per byte is small and the cost is not
_LOGIT_BYTES = 1 << 28  # of float32 logits per forward; the batch follows from it
_MAX_BATCH = 16  # more brought nothing on two cores


@dataclass(frozen=True)
class BitsResult:
    """The cost of a text in bits.

    Attributes:
        bits_per_byte: total_bits / num_bytes.
        total_bits: Of all documents.
        num_bytes: Of all documents.
        num_tokens: Of all documents, each scored once; no BOS among them.
        bytes_per_token: num_bytes / num_tokens.
        num_windows: Forwards' rows.
        context: Tokens that a window holds.
        stride: Tokens that a window scores, the first one of a document aside.
        first_token: What a document's first token is conditioned on: "bos", "eos" or "uniform"
            (nothing: it costs log2(vocab_size) bits).
    """

    bits_per_byte: float
    total_bits: float
    num_bytes: int
    num_tokens: int
    bytes_per_token: float
    num_windows: int
    context: int
    stride: int
    first_token: str


class Window(NamedTuple):
    """Score `sequence[first : stop]` given `sequence[start : stop - 1]`."""

    document: int
    start: int
    first: int
    stop: int


def make_windows(length: int, context: int, stride: int, document: int = 0) -> Iterator[Window]:
    """Yield windows that score the positions 1 .. length - 1 of a sequence once each.

    The first window scores all that it holds, the later ones `stride` positions, the last one what
    is left; each has as much left context as `context` tokens allow.

    Example:
        >>> [tuple(w)[1:] for w in make_windows(8, 4, 2)]
        [(0, 1, 5), (2, 5, 7), (3, 7, 8)]
    """
    first, stop = 1, min(length, context + 1)
    while first < stop:
        yield Window(document, max(0, stop - 1 - context), first, stop)
        first, stop = stop, min(length, stop + stride)


def bits_per_byte(
    lm: LanguageModel,
    data: bytes | str | Sequence[bytes | str],
    *,
    stride: int | None = None,
    context: int | None = None,
    batch_size: int | None = None,
    add_bos: bool | None = None,
    progress: Progress = NO_PROGRESS,
) -> BitsResult:
    """Score a text, or several documents each on its own.

    Args:
        lm: The model; vocabulary and weights must belong together.
        data: One document or a list of them; the bits and bytes of all are added up.
        stride: Tokens scored per window, 1 to context; half the context when None.
        context: Tokens per window; the model's length but at most 2048 when None.
        batch_size: Windows per forward; from the size of the logits when None.
        add_bos: Whether the first token is conditioned on BOS (or EOS in its stead); when None,
            as the vocabulary allows.
        progress: Shown by document window.
    Raises:
        EncodingError: the tokenizer has no exact encoding of a document.
        ConfigError: no bytes, or stride or context outside their range.
        TokenizerMismatchError: the tokenizer gives an id that has no embedding.
    """
    given = [data] if isinstance(data, (bytes, str)) else data
    documents = [d.encode("utf-8", "surrogatepass") if isinstance(d, str) else d for d in given]
    num_bytes = sum(map(len, documents))
    if not num_bytes:
        raise ConfigError("the text to score is empty", hint="give at least one byte")
    context, stride = _checked_sizes(lm, context, stride)
    prefix, first_token = _first_condition(lm, add_bos)
    sequences = _encode(lm, documents, prefix)
    num_tokens = sum(len(sequence) - len(prefix) for sequence in sequences)
    num_uniform = 0 if prefix else sum(map(bool, sequences))
    uniform_bits = num_uniform * math.log2(lm.vocabulary.vocab_size)
    windows = [
        window
        for number, sequence in enumerate(sequences)
        for window in make_windows(len(sequence), context, stride, number)
    ]
    windows.sort(key=lambda w: (w.stop - w.start, w.document, w.first), reverse=True)
    batches = list(_batches(windows, lm.num_embeddings, batch_size))
    nats = 0.0
    with widened(lm.model):
        for batch in progress.track(batches, len(batches), "bits per byte", "batch"):
            nats += _score(lm, [sequences[w.document] for w in batch], batch)
    total = nats / math.log(2) + uniform_bits
    return BitsResult(
        bits_per_byte=total / num_bytes,
        total_bits=total,
        num_bytes=num_bytes,
        num_tokens=num_tokens,
        bytes_per_token=num_bytes / num_tokens,
        num_windows=len(windows),
        context=context,
        stride=stride,
        first_token=first_token,
    )


def _encode(lm: LanguageModel, documents: list[bytes], prefix: list[int]) -> list[list[int]]:
    """Return the ids of each document behind the prefix; all have an embedding."""
    sequences = []
    for ids in lm.vocabulary.encode_batch(documents):
        if ids and max(ids) >= lm.num_embeddings:
            raise TokenizerMismatchError(
                f"token id {max(ids)} has none of the {lm.num_embeddings} embeddings",
                hint="score with the tokenizer of this model",
            )
        sequences.append([*prefix, *ids])
    return sequences


def _checked_sizes(lm: LanguageModel, context: int | None, stride: int | None) -> tuple[int, int]:
    longest = lm.max_length or 1 << 40
    context = min(longest, _DEFAULT_CONTEXT) if context is None else context
    if not 1 <= context <= longest:
        raise ConfigError(f"context must be 1 to {longest} for {lm.name}, got {context}")
    stride = max(1, context // 2) if stride is None else stride
    if not 1 <= stride <= context:
        raise ConfigError(f"stride must be 1 to the context of {context}, got {stride}")
    return context, stride


def _first_condition(lm: LanguageModel, add_bos: bool | None) -> tuple[list[int], str]:
    """Return the token before the first one, and its name."""
    vocabulary = lm.vocabulary
    if add_bos is not False:
        for name, token_id in (("bos", vocabulary.bos_token_id), ("eos", vocabulary.eos_token_id)):
            if token_id is not None and token_id < lm.num_embeddings:
                return [token_id], name
        if add_bos:
            raise ConfigError(
                f"{lm.name} has neither a BOS nor an EOS token", hint="leave add_bos at its default"
            )
    return [], "uniform"


def _batches(
    windows: list[Window], num_embeddings: int, batch_size: int | None
) -> Iterator[list[Window]]:
    """Group windows of similar length so that the logits of a batch stay within bounds."""
    if batch_size is not None and batch_size < 1:
        raise ConfigError(f"batch_size must be 1 or more, got {batch_size}")
    start = 0
    while start < len(windows):
        longest = windows[start].stop - windows[start].start - 1
        fitting = max(1, _LOGIT_BYTES // (4 * num_embeddings * longest))
        size = batch_size or min(_MAX_BATCH, fitting)
        yield windows[start : start + size]
        start += size


def _score(lm: LanguageModel, sequences: list[list[int]], windows: list[Window]) -> float:
    """Return the nats of all windows of a batch, in one forward."""
    inputs = [s[w.start : w.stop - 1] for s, w in zip(sequences, windows, strict=True)]
    longest = max(len(ids) for ids in inputs)
    padded = [ids + [0] * (longest - len(ids)) for ids in inputs]  # causal: padding is not seen
    kept = longest - min(w.first - 1 - w.start for w in windows)
    accepted = inspect.signature(lm.model.forward).parameters
    wanted: dict[str, Any] = {"logits_to_keep": kept, "use_cache": False}
    options = {name: value for name, value in wanted.items() if name in accepted}
    with torch.inference_mode():
        output = lm.model(input_ids=torch.tensor(padded, device=lm.device), **options)
        logits: Tensor = output.logits[:, -kept:]  # (batch, kept, num_embeddings)
        nats = 0.0
        for row, (sequence, window) in enumerate(zip(sequences, windows, strict=True)):
            begin = window.first - 1 - window.start - (longest - kept)
            scored = logits[row, begin : begin + window.stop - window.first].float()
            targets = torch.tensor(sequence[window.first : window.stop], device=lm.device)
            losses = torch.nn.functional.cross_entropy(scored, targets, reduction="none")
            nats += float(losses.double().sum())
    return nats
