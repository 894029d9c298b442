"""A shallow copy of a decoder: its first layers, an adapter behind them, its own output matrix.

The layers, embeddings and output matrix are those of the target itself, not copies. The adapter is
one more decoder layer without its feed-forward part, and a norm.
"""

import copy
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from jeton.errors import ConfigError, UnsupportedModelError
from jeton.lm.lean_check import PLAN

# Layers and last norm: Llama and its kin, GPT-2, GPT-NeoX.
_NAMES = (("layers", "norm"), ("h", "ln_f"), ("layers", "final_layer_norm"))


class Nothing(nn.Module):
    """A feed-forward part that adds nothing."""

    def forward(self, states: Tensor) -> Tensor:
        """Return zeros."""
        return torch.zeros_like(states)


def shallow_model(
    target: PreTrainedModel, num_layers: int
) -> tuple[PreTrainedModel, nn.ModuleDict]:
    """Return a model of the target's first layers and an adapter, and the adapter's modules.

    Args:
        target: Its parameters are shared; its modules are not changed.
        num_layers: Of the target that are kept, at least 1 and fewer than it has.
    Returns:
        The model, and {"attention": the extra layer, "norm": the last norm}, float32, fresh from
        the target's layer that followed and from its last norm.

    Raises:
        ConfigError: num_layers is out of range.
        UnsupportedModelError: the target is not built as Llama is.
    """
    config = target.config.get_text_config(decoder=True)
    depth = int(config.num_hidden_layers)
    if not 1 <= num_layers < depth:
        raise ConfigError(f"num_layers must be 1 to {depth - 1} for this target, got {num_layers}")
    body: Any = target.base_model
    names = _names(body)
    if names is None:
        raise UnsupportedModelError(
            f"{type(target).__name__} is not built of layers with an mlp and a last norm",
            hint="use the drafter hydra, which asks nothing of the layers",
        )
    layers, norm = (getattr(body, name) for name in names)
    extra: Any = copy.deepcopy(layers[num_layers]).float()
    for name in [name for name, _ in extra.named_children()]:
        if name == "mlp":
            extra.mlp = Nothing()
        elif "feedforward" in name:
            setattr(extra, name, nn.Identity())
    last = copy.deepcopy(norm).float()
    shallow_body = _shallow(body)
    setattr(shallow_body, names[0], nn.ModuleList([*layers[:num_layers], extra]))
    setattr(shallow_body, names[1], last)
    shallow_body.config = copy.deepcopy(body.config)
    _cut(shallow_body.config, num_layers + 1)
    model: Any = _shallow(target)
    setattr(model, target.base_model_prefix, shallow_body)
    model.config = shallow_body.config if target.config is body.config else _cut_copy(target)
    _cut(model.config, num_layers + 1)
    return model, nn.ModuleDict({"attention": extra, "norm": last})


def _names(body: Any) -> tuple[str, str] | None:
    """Return under which names a body keeps its layers and its last norm."""
    for pair in _NAMES:
        layers, norm = (getattr(body, name, None) for name in pair)
        if isinstance(layers, nn.ModuleList) and norm is not None and hasattr(layers[0], "mlp"):
            return pair
    return None


def _shallow(module: Any) -> Any:
    """Return a module that shares everything with another, but whose parts can be replaced."""
    twin = copy.copy(module)
    twin.__dict__ = dict(module.__dict__)
    for name in ("_modules", "_parameters", "_buffers"):
        twin.__dict__[name] = dict(module.__dict__[name])
    twin.__dict__.pop(PLAN, None)  # the packed weights are those of all layers
    return twin


def _cut_copy(target: PreTrainedModel) -> Any:
    return copy.deepcopy(target.config)


def _cut(config: Any, num_layers: int) -> None:
    config.num_hidden_layers = num_layers
    if getattr(config, "layer_types", None):
        config.layer_types = list(config.layer_types)[:num_layers]
