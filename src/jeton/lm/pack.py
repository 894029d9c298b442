"""Faster decoding on the CPU from a second copy of the weights, for as long as a block runs.

A model that the lean forward knows gets one plan with weights of its own (`lean_fused`), which
every `Runner` made in the block uses. In other models, and where bf16 products are the
processor's own, each linear layer gets weights in another layout (`packed_linear`).

Cost: a second copy of the linear weights, of twice the size where bf16 is widened to float32.
"""

import contextlib
from collections.abc import Iterator

import torch
from torch import nn

from jeton.lm.lean_check import PLAN, fused_plan
from jeton.lm.packed_linear import has_bf16_instructions, pack_layer

_MOST_WIDENED = 1 << 32  # bytes of float32 copies; a larger model keeps its bf16


@contextlib.contextmanager
def packed(model: nn.Module, *, lean: bool = True) -> Iterator[int]:
    """Speed up the linear layers of a CPU model within the block.

    Where autograd records, the layers fall back to the ordinary forward. Weights that change
    within the block are not seen. On a processor without bf16 instructions a bf16 model of up to
    a billion weights is computed in float32: sooner, and nearer to its exact logits.

    Args:
        model: Restored at the end, whatever happens.
        lean: False packs the model's own layers even where the lean forward knows it: for
            forwards that a `Runner` does not make, or makes with a cache of its own (`jeton.kv`).
    Yields:
        The number of layers that were packed; 0 where the machine or the dtype has no use for it.
    """
    layers = [
        module
        for module in model.modules()
        if type(module) is nn.Linear
        and "forward" not in vars(module)
        and module.weight.device.type == "cpu"
    ]
    dtypes = {module.weight.dtype for module in layers}
    may_widen = (
        4 * sum(module.weight.numel() for module in layers) <= _MOST_WIDENED
        and not has_bf16_instructions()
    )
    is_float32 = dtypes == {torch.float32} or (dtypes == {torch.bfloat16} and may_widen)
    plan = fused_plan(model) if lean and is_float32 and PLAN not in vars(model) else None
    changed: list[nn.Linear] = []
    try:
        if plan is not None:
            vars(model)[PLAN] = plan
            yield len(layers)
            return
        for module in layers:
            layer = pack_layer(module, may_widen=may_widen)
            if layer is not None:
                vars(module)["forward"] = layer
                changed.append(module)
        yield len(changed)
    finally:
        if plan is not None:
            del vars(model)[PLAN]
        for module in changed:
            del vars(module)["forward"]


def widened(model: nn.Module) -> contextlib.AbstractContextManager[object]:
    """Compute a bf16 model's linear layers in float32 within the block, where that is sooner.

    That is on a CPU without bf16 instructions and with up to a billion weights; elsewhere the block
    changes nothing and holds no copies.
    """
    is_slow = getattr(model, "dtype", None) == torch.bfloat16 and not has_bf16_instructions()
    return packed(model, lean=False) if is_slow else contextlib.nullcontext()
