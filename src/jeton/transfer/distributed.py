"""Healing in several processes: each takes its share of the rows, gradients are added up.

Processes are started by torchrun or accelerate. Whoever calls a healer sets up
`torch.distributed`, the verbs do it by `process_group`; without a process group this is one worker
that does nothing special.
"""

import contextlib
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, distributed

if TYPE_CHECKING:
    from jeton.transfer.training import Batch

_PATIENCE = timedelta(days=7)  # process 0 may measure for hours while the others wait


@dataclass(frozen=True, slots=True)
class Workers:
    """This process among `count`; `rank` 0 writes checkpoints."""

    rank: int = 0
    count: int = 1

    @classmethod
    def here(cls) -> "Workers":
        """Return what the process group says, one worker without one."""
        if not (distributed.is_available() and distributed.is_initialized()):
            return cls()
        return cls(distributed.get_rank(), distributed.get_world_size())

    def share(self, batch: "Batch") -> "Batch":
        """Return this process's rows of a batch; may be empty."""
        return batch.part(slice(self.rank, None, self.count)) if self.count > 1 else batch

    def sum_gradients(self, parameters: Iterable[Tensor]) -> None:
        """Replace the gradients of trained parameters by their sum over all processes."""
        if self.count == 1:
            return
        for parameter in parameters:
            if parameter.requires_grad:
                if parameter.grad is None:
                    parameter.grad = torch.zeros_like(parameter)
                distributed.all_reduce(parameter.grad)

    def sum(self, value: float) -> float:
        """Return the sum of a number over all processes."""
        if self.count == 1:
            return value
        total = torch.tensor(value, dtype=torch.float64)
        distributed.all_reduce(total)
        return float(total)

    def any(self, flag: bool) -> bool:
        """Return whether a flag is set in any process."""
        return self.sum(float(flag)) > 0

    def broadcast(self, value: Any) -> Any:
        """Return process 0's value in every process."""
        if self.count == 1:
            return value
        values = [value]
        distributed.broadcast_object_list(values)
        return values[0]


@contextlib.contextmanager
def process_group() -> Iterator[Workers]:
    """Join the processes that torchrun or accelerate started, alone where there are none."""
    count = int(os.environ.get("WORLD_SIZE", "1"))
    if count == 1 or distributed.is_initialized():
        yield Workers.here()
        return
    distributed.init_process_group("gloo", timeout=_PATIENCE)
    try:
        yield Workers.here()
    finally:
        distributed.destroy_process_group()
