"""Whether the lean forward gives a model's own logits, found by trying."""

from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from jeton.lm.cache import SlotCache, SlotLayer
from jeton.lm.cache_contract import DecoderCache
from jeton.lm.lean import LeanForward, NotLeanError
from jeton.lm.lean_fused import FusedForward
from jeton.lm.tree import TokenTree

PLAN = "_jeton_fused_plan"  # where `packed` keeps a model's plan while its block lasts
_ERRORS = (TypeError, ValueError, RuntimeError, IndexError, KeyError, AttributeError)
_FLOAT32_ERROR = 1e-4  # of the largest logit
_ROUNDED_ERROR = 0.1  # relative, in the 2-norm; a missing part of a model shows far more

# The answer follows from the model's parts alone, which `LeanForward` reads anew for every runner;
# without this every runner would pay for the dry run.
_ANSWERS: WeakKeyDictionary[PreTrainedModel, dict[object, str | None]] = WeakKeyDictionary()


def find_lean(model: PreTrainedModel, cache: DecoderCache) -> tuple[LeanForward | None, str]:
    """Return a proven plan for a model and its cache, or None and the reason against it."""
    if type(cache) is not SlotCache or cache.plain_layers is None:
        return None, "its cache does not show every row"
    if model.device.type not in ("cpu", "cuda"):
        return None, f"the device is {model.device.type}"
    fused = vars(model).get(PLAN)
    if isinstance(fused, FusedForward) and not fused.has_hooks:
        return fused, "a dry run gave the logits of the model; weights are packed"
    try:
        plan = LeanForward(model)
    except NotLeanError as reason:
        return None, str(reason)
    answers = _ANSWERS.setdefault(model, {})
    key = (plan.dtype, plan.is_packed, model.dtype, model.device)
    if key not in answers:
        answers[key] = _disproof(plan, model)
    reason_against = answers[key]
    if reason_against is None:
        return plan, "a dry run gave the logits of the model"
    return None, reason_against


def fused_plan(model: nn.Module) -> FusedForward | None:
    """Return a proven plan with weights of its own, or None."""
    if not isinstance(model, PreTrainedModel) or model.device.type != "cpu" or model.training:
        return None
    try:
        with torch.inference_mode():
            plan = FusedForward(model)
    except (NotLeanError, *_ERRORS):
        return None
    return plan if _disproof(plan, model) is None else None


@torch.inference_mode()
def _disproof(plan: LeanForward, model: PreTrainedModel) -> str | None:
    """Compare a prefill, a tree, a commit and a step with the model's plain forward."""
    size = plan.num_embeddings
    a, b, c, d, e, f, g = (i * i % size for i in range(1, 8))
    layers = [SlotLayer(None, 64) for _ in range(plan.num_layers)]
    tree = TokenTree([d, e, f], [-1, -1, 0])
    try:
        rows = [plan.run(layers, 0, [a, b, c], None, 1)[0]]
        rows.append(plan.run(layers, 3, tree.token_ids, tree, 3)[0])
        for layer in layers:
            layer.keep(3, [3, 5])
        rows.append(plan.run(layers, 5, [g], None, 1)[0])
    except (NotLeanError, *_ERRORS) as error:
        return f"the dry run failed: {error}"
    paths = torch.tensor([[a, b, c, d, f, g], [a, b, c, e, f, g]], device=model.device)
    plain = model(input_ids=paths, use_cache=False).logits.float()
    right = torch.stack([plain[0, 2], plain[0, 3], plain[1, 3], plain[0, 4], plain[0, 5]])
    return None if _is_same(torch.cat(rows), right, model.dtype) else "a dry run gave other logits"


def _is_same(found: Tensor, right: Tensor, dtype: torch.dtype) -> bool:
    if dtype == torch.float32:
        error, scale = (found - right).abs().max(), right.abs().max()
        return float(error) <= _FLOAT32_ERROR * float(scale)
    return float((found - right).norm()) <= _ROUNDED_ERROR * float(right.norm())
