"""The measured cost of an n-token forward on this machine; tree sizes follow from it."""

import platform
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from transformers import PreTrainedModel

from jeton.errors import ConfigError
from jeton.lm.runner import Runner
from jeton.lm.tree import TokenTree


@dataclass(frozen=True)
class CostTable:
    """Seconds of one forward by the number of new tokens.

    Attributes:
        sizes: New tokens per forward, increasing.
        seconds: Median over the repeats, one per size.
        context: Tokens in the cache.
        machine: Device and threads.
        dtype: Of the model.
    """

    sizes: list[int]
    seconds: list[float]
    context: int
    machine: str
    dtype: str

    def __post_init__(self) -> None:
        increasing = all(a < b for a, b in zip(self.sizes, self.sizes[1:], strict=False))
        if not self.sizes or self.sizes[0] < 1 or not increasing:
            raise ConfigError(f"sizes must be increasing and 1 or more, got {self.sizes}")
        if len(self.sizes) != len(self.seconds):
            raise ConfigError(f"{len(self.sizes)} sizes have {len(self.seconds)} times")

    def seconds_for(self, num_tokens: int) -> float:
        """Return the seconds of an n-token forward: linear between sizes and beyond the last.

        Example:
            >>> table = CostTable([1, 4], [1.0, 2.5], 0, "toy", "float32")
            >>> table.seconds_for(3), table.seconds_for(6), table.ratio(4)
            (2.0, 3.5, 2.5)
        """
        if num_tokens < 1:
            raise ConfigError(f"a forward has 1 token or more, got {num_tokens}")
        if len(self.sizes) == 1 or num_tokens <= self.sizes[0]:
            return self.seconds[0]
        right = next(
            (i for i, size in enumerate(self.sizes) if size >= num_tokens), len(self.sizes) - 1
        )
        (x0, x1), (y0, y1) = self.sizes[right - 1 : right + 1], self.seconds[right - 1 : right + 1]
        slope = (y1 - y0) / (x1 - x0)
        if num_tokens > x1:  # a noisy negative slope must not predict that more tokens cost less
            return y1 + max(slope, 0.0) * (num_tokens - x1)
        return y0 + slope * (num_tokens - x0)

    def ratio(self, num_tokens: int) -> float:
        """Return the cost of an n-token forward in one-token forwards."""
        return self.seconds_for(num_tokens) / self.seconds_for(1)


def measure_cost(
    model: PreTrainedModel | Runner,
    sizes: Sequence[int] = (1, 2, 4, 8, 16, 32, 64),
    *,
    context: int = 256,
    repeats: int = 5,
    clock: Callable[[], float] = time.perf_counter,
) -> CostTable:
    """Measure forwards of several sizes, interleaved so that a slow moment hits all alike.

    Args:
        model: Or a runner, whose cache is left alone.
        sizes: New tokens per forward; those that `max_length` has no room for are left out.
        context: Tokens in the cache, at most what leaves room for the smallest size.
        repeats: Forwards per size, after one to warm up.
        clock: Seconds; `time.thread_time` measures CPU time, which load does not disturb.
    Raises:
        ConfigError: no sizes, or a number that is below 1.
    """
    if not sizes or min(sizes) < 1 or context < 1 or repeats < 1:
        raise ConfigError("sizes, context and repeats must be 1 or more")
    runner = model.fork() if isinstance(model, Runner) else Runner(model)
    runner.reset()
    context = min(context, runner.max_length - min(sizes))
    runner.prefill([i % runner.num_embeddings for i in range(context)])
    fitting = sorted({size for size in sizes if context + size <= runner.max_length})
    on_cuda = runner.device.type == "cuda"
    times: dict[int, list[float]] = {size: [] for size in fitting}
    for turn in range(repeats + 1):
        for size in fitting:
            chain = TokenTree.chain([i % runner.num_embeddings for i in range(size)])
            start = clock()
            runner.verify(chain)
            if on_cuda:
                torch.cuda.synchronize(runner.device)
            elapsed = clock() - start
            runner.commit([])
            if turn:
                times[size].append(elapsed)
    return CostTable(
        fitting,
        [statistics.median(times[size]) for size in fitting],
        context,
        _machine(runner.device),
        str(runner.model.dtype).removeprefix("torch."),
    )


def _machine(device: torch.device) -> str:
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    threads = torch.get_num_threads()
    return f"{platform.machine()}, {threads} thread{'s' if threads > 1 else ''}"
