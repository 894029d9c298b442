"""Adam whose eps follows the gradient, so that rows of rare tokens take small steps.

Adam divides each entry's mean gradient by its root mean square. In an embedding matrix the
gradients of frequent and rare rows differ by a thousandfold, and what the softmax sends to a rare
row is mostly noise; divided by its own size it moves that row as far as any other. An eps of the
size of the whole matrix's gradient keeps the steps of frequent rows and shrinks the others
(docs/log.md).
"""

from collections.abc import Container

import torch


def damp(optimizer: torch.optim.Optimizer, ids: Container[int], damping: float) -> None:
    """Set Adam's eps of parameters to a share of their root mean square gradient so far.

    Args:
        optimizer: Adam or AdamW, before its step, each of the parameters in a group of its own.
        ids: `id` of each parameter; others keep their eps.
        damping: The share; 0 changes nothing.
    """
    for group in optimizer.param_groups:
        parameter = group["params"][0]
        if not damping or id(parameter) not in ids or parameter.grad is None:
            continue
        assert len(group["params"]) == 1, "each damped matrix has a group of its own"
        square = parameter.grad.square().mean()
        state, beta = optimizer.state.get(parameter), group["betas"][1]
        if state:  # as the optimizer will have it after this step, its start at zero corrected
            mixed = beta * state["exp_avg_sq"].mean() + (1 - beta) * square
            square = mixed / (1 - beta ** (float(state["step"]) + 1))
        group["eps"] = max(1e-8, damping * float(square.sqrt()))
