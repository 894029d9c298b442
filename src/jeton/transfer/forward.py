"""Forward passes of healing: in which precision, and what a teacher is run in."""

import copy
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from jeton.transfer.contract import HealInput


def forward_logits(model: Any, token_ids: Tensor, precision: str) -> Tensor:
    """Return logits, shape (rows, length, num_embeddings); gradients flow."""
    is_bf16 = precision == "bfloat16" or (precision == "auto" and _bf16_pays(model))
    with torch.autocast(model.device.type, torch.bfloat16, enabled=is_bf16):
        logits: Tensor = model(input_ids=token_ids, use_cache=False).logits
    return logits


def cross_entropy_sum(model: Any, rows: Tensor, precision: str) -> Tensor:
    """Return the cross-entropy in nats, summed over rows of shape (rows, length + 1)."""
    logits = forward_logits(model, rows[:, :-1], precision)
    return functional.cross_entropy(
        logits.flatten(0, 1).float(), rows[:, 1:].flatten(), reduction="sum"
    )


def guiding_model(inputs: HealInput, precision: str) -> Any:
    """Return the teacher, in float32 where half precision would only be slower.

    On a CPU without AMX a product in bfloat16 takes three times as long as one in float32.
    """
    teacher = inputs.teacher
    is_half = teacher.dtype in (torch.bfloat16, torch.float16)
    if is_half and precision == "auto" and teacher.device.type == "cpu" and not _bf16_pays(teacher):
        return copy.deepcopy(teacher).float()
    return teacher


def _bf16_pays(model: Any) -> bool:
    """Whether bf16 products are faster here: GPUs, and CPUs that have AMX."""
    if model.device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported())
    return bool(torch.cpu._is_amx_tile_supported())
