"""Out of memory while a prompt is read: say the chunk size that would fit."""

import functools
import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from transformers import PreTrainedModel

from jeton.errors import ConfigError

_ASKED = re.compile(r"tried to allocate ([\d.]+) ?(bytes|KiB|MiB|GiB)", re.IGNORECASE)
_UNITS = {"bytes": 1, "kib": 1 << 10, "mib": 1 << 20, "gib": 1 << 30}
_LEAST = 2  # tokens; a forward of a single one is told nothing: it could be a decoding step
_SIGNS = ("out of memory", "can't allocate memory", "not enough memory")


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory ran out.

    Example:
        >>> is_out_of_memory(MemoryError()), is_out_of_memory(RuntimeError("wrong shape"))
        (True, False)
    """
    if isinstance(error, (MemoryError, torch.OutOfMemoryError)):
        return True
    return isinstance(error, RuntimeError) and any(sign in str(error) for sign in _SIGNS)


def chunk_that_fits(num_tokens: int, message: str, free: int) -> int:
    """Return the power of two of tokens per forward whose largest allocation is free.

    What a forward allocates grows with its tokens; without a figure in the message half the
    tokens are named; two is the least.

    Args:
        num_tokens: Of the forward that failed.
        message: Of the error; names what could not be allocated, or does not.
        free: Bytes.
    Example:
        >>> chunk_that_fits(4096, "you tried to allocate 4096000 bytes", 1_000_000)
        512
        >>> chunk_that_fits(4096, "", 0)
        2048
    """
    most = max(num_tokens // 2, 1)
    asked = _ASKED.search(message)
    if asked:
        per_token = float(asked[1]) * _UNITS[asked[2].lower()] / num_tokens
        most = min(most, int(free / max(per_token, 1e-9)))
    return 1 << (max(most, _LEAST).bit_length() - 1)


def free_bytes(device: torch.device) -> int:
    """Return the memory that is free on a device, 0 where nothing tells."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    try:
        return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, OSError, ValueError):
        return 0


def chunk_error(num_tokens: int, error: BaseException, device: torch.device) -> ConfigError | None:
    """Return the error that names a chunk size, or None where no smaller chunk would help.

    Args:
        num_tokens: Of the forward that failed.
        error: With which it failed.
        device: Where it ran.
    """
    if num_tokens <= _LEAST or not is_out_of_memory(error):
        return None
    chunk = chunk_that_fits(num_tokens, str(error), free_bytes(device))
    return ConfigError(
        f"out of memory while reading {num_tokens} tokens at once",
        hint=f"start over with chunks of {chunk} tokens: --prefill-chunk {chunk}, "
        f"Runner(prefill_chunk={chunk}), or generate(prefill_chunk_size={chunk})",
    )


@contextmanager
def guard_memory(model: PreTrainedModel) -> Iterator[None]:
    """Turn out-of-memory in forwards of several tokens into an error that names a chunk size.

    Raises:
        ConfigError: a forward of the model, called inside, ran out of memory.
    """
    before = model.__dict__.get("forward")
    native: Callable[..., Any] = model.forward

    @functools.wraps(native)
    def forward(*args: Any, **kwargs: Any) -> Any:
        try:
            return native(*args, **kwargs)
        except (MemoryError, RuntimeError) as error:
            given = args[0] if args else kwargs.get("input_ids")
            embeds = kwargs.get("inputs_embeds")
            num_tokens = embeds.shape[1] if given is None and embeds is not None else 0
            num_tokens = given.shape[-1] if given is not None else num_tokens
            told = chunk_error(num_tokens, error, model.device)
            if told is None:
                raise
            raise told from error

    model.forward = forward
    try:
        yield
    finally:
        if before is None:
            del model.forward
        else:
            model.forward = before
