"""A linear layer on the CPU with weights laid out for the few rows of a decoding step.

Three layouts. bf16 on a processor with bf16 instructions: oneDNN's blocked order, with the
operators to which torch's own compiler lowers linear layers (torch._inductor); they are private,
so every use is guarded. bf16 on a processor without: float32 copies, since oneDNN would emulate
bf16 products at several times their cost. float32: the transposed copy, which MKL multiplies by a
few rows in half the time. A layer that does not pass a check stays as it is.

Cost: a second copy of the weights while the block lasts, of twice the size where bf16 is widened.
Measured on one thread, 8192 x 256, 8 rows: float32 944 us as it comes, 474 us transposed; bf16
without instructions 1,477 us, widened 474 us.
"""

import platform

import torch
from torch import Tensor, nn

_ROWS = 16  # the blocked order is laid out for few rows: those of a decoding step


class PackedLinear:
    """The forward of one linear layer with weights in another layout.

    Attributes:
        dtype: In which `rows` computes.
        weight: The copy.
    """

    def __init__(self, module: nn.Linear, weight: Tensor, dtype: torch.dtype) -> None:
        self.module, self.weight, self.dtype = module, weight, dtype
        bias = module.bias
        self._bias = None if bias is None else bias.detach().to(dtype)
        self._ordinary = type(module).forward

    def rows(self, input: Tensor) -> Tensor:
        """Return the product with rows of shape (rows, in_features), dtype `dtype`."""
        if self._bias is None:
            return torch.mm(input, self.weight)
        return torch.addmm(self._bias, input, self.weight)

    def __call__(self, input: Tensor) -> Tensor:
        """Stand for the module's forward; where autograd records, it is the ordinary one."""
        if torch.is_grad_enabled() or input.dtype != self.module.weight.dtype:
            result: Tensor = self._ordinary(self.module, input)
            return result
        found = self.rows(input.reshape(-1, input.shape[-1]).to(self.dtype))
        return found.to(input.dtype).view(*input.shape[:-1], -1)


class BlockedLinear(PackedLinear):
    """oneDNN's blocked order: the same bits as the ordinary layer, sooner."""

    def rows(self, input: Tensor) -> Tensor:
        """Return the product with rows of any shape (..., in_features)."""
        found: Tensor = torch.ops.mkldnn._linear_pointwise(
            input, self.weight, self._bias, "none", [], ""
        )
        return found


def packed_layer(module: nn.Module) -> PackedLinear | None:
    """Return what `packed` has put in the place of a module's forward, or None."""
    layer = vars(module).get("forward")
    return layer if isinstance(layer, PackedLinear) else None


def has_bf16_instructions() -> bool:
    """Whether the processor multiplies bf16 itself; x86 without AVX512-BF16 and AMX does not."""
    if platform.machine().lower() not in ("x86_64", "amd64"):
        return True
    found = torch.cpu.get_capabilities()
    return bool(found.get("avx512_bf16") or found.get("amx_bf16"))


def pack_layer(module: nn.Linear, *, may_widen: bool) -> PackedLinear | None:
    """Return a layer in the layout for its dtype and this processor, or None where none helps.

    Args:
        module: On the CPU.
        may_widen: Whether bf16 may become float32 where the processor has no bf16 instructions.
    """
    dtype = module.weight.dtype
    if dtype == torch.float32 or (
        dtype == torch.bfloat16 and may_widen and not has_bf16_instructions()
    ):
        weight = module.weight.detach().float().t().contiguous()
        return PackedLinear(module, weight, torch.float32)
    if dtype != torch.bfloat16 or not _has_operators():
        return None
    return _blocked_layer(module)


def _has_operators() -> bool:
    """Whether this build of torch and this processor have the operators for bf16."""
    if not torch.backends.mkldnn.is_available():
        return False
    try:
        operators = torch.ops.mkldnn
        _ = operators._reorder_linear_weight, operators._linear_pointwise
        return bool(operators._is_mkldnn_bf16_supported())
    except (AttributeError, RuntimeError):
        return False


def _blocked_layer(module: nn.Linear) -> BlockedLinear | None:
    """Return a layer in blocked order, or None where it would not be the same."""
    weight = module.weight.detach().contiguous()
    try:
        blocked = torch.ops.mkldnn._reorder_linear_weight(weight, _ROWS)
        layer = BlockedLinear(module, blocked, torch.bfloat16)
        probe = torch.linspace(-1, 1, 2 * module.in_features).view(2, -1).to(torch.bfloat16)
        with torch.inference_mode():
            found, expected = layer.rows(probe), type(module).forward(module, probe)
    except (RuntimeError, NotImplementedError):
        return None
    return layer if torch.allclose(found.float(), expected.float(), rtol=0.02, atol=1e-2) else None
