"""Attach a policy to a model of transformers: its attention goes through the cache, and back.

The model's attention function is replaced by name, through the interface of transformers, and its
caches get policy layers where they would hold full attention; sliding layers stay as they are.
"""

import functools
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel
from transformers.cache_utils import Cache, DynamicCache, DynamicLayer
from transformers.configuration_utils import PreTrainedConfig
from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS, AttentionMaskInterface
from transformers.modeling_utils import AttentionInterface

from jeton.errors import ConfigError, UnsupportedModelError
from jeton.kv.budget_layer import BudgetLayer
from jeton.kv.contract import EVICT, CachePolicy
from jeton.kv.dense import DenseLayer
from jeton.kv.layer import TAG, native_attention
from jeton.kv.memory import guard_memory
from jeton.kv.registry import create_policy
from jeton.kv.runner_cache import PolicyCache
from jeton.kv.select_layer import SelectLayer
from jeton.lm.cache import CacheFactory, SlotLayer

_PREFIX = "jeton_"
_NATIVE = ("sdpa", "eager")
_PROBE_ERRORS = (TypeError, ValueError, RuntimeError, IndexError, KeyError, AttributeError)
Layer = BudgetLayer | SelectLayer


class Attached:
    """A policy at work on a model.

    Attributes:
        policy: The policy.
        layers: Policy layers of the cache that was used last, by layer index.
    """

    def __init__(
        self, model: PreTrainedModel, policy: CachePolicy, budgets: Sequence[int] | None
    ) -> None:
        self.model, self.policy = model, policy
        self.config = model.config.get_text_config(decoder=True)
        self.native_name = str(self.config._attn_implementation)
        self.layers: dict[int, Layer] = {}
        self._budgets = list(budgets) if budgets is not None else None
        self._made: list[Layer] = []
        self._is_active = True
        self._is_reading = False

    @contextmanager
    def prompt(self) -> Iterator[None]:
        """Say that the forwards inside read a prompt, also those of a single token.

        `generate` of transformers says it by itself.
        """
        before, self._is_reading = self._is_reading, True
        try:
            yield
        finally:
            self._is_reading = before

    @property
    def kept(self) -> float:
        """Rows in use per head and layer, the mean."""
        return sum(layer.kept for layer in self.layers.values()) / max(len(self.layers), 1)

    @property
    def num_bytes(self) -> int:
        """Bytes of keys and values allocated by the policy's layers."""
        return sum(layer.num_bytes for layer in self.layers.values())

    @property
    def full_step_fraction(self) -> float | None:
        """Part of the choices for which all keys were read; None for evicting policies."""
        chosen = [layer for layer in self.layers.values() if isinstance(layer, SelectLayer)]
        if not chosen:
            return None
        return sum(x.num_full for x in chosen) / max(sum(x.num_steps for x in chosen), 1)

    def cache(self) -> CacheFactory:
        """Return what a `Runner` takes as its `cache`."""

        def make(config: PreTrainedConfig, max_length: int) -> PolicyCache:
            if not self._is_active or config is not self.config:
                raise ConfigError(
                    "the cache belongs to a policy that is not attached to this model",
                    hint="make the Runner of that model, inside of `with attach(model, policy)`",
                )
            return PolicyCache(config, max_length, self._make_layer, self.track, self.native_name)

        return make

    def track(self, layers: dict[int, Layer]) -> None:
        """Show these layers from their next forward on, and let them refuse tokens at the end."""

        def arrived() -> None:
            self.layers = layers

        for layer in layers.values():
            layer.arrived = arrived
            layer.is_reading = lambda: self._is_reading
        self._made += layers.values()

    def _make_layer(self, index: int) -> Layer:
        budget = self.policy.budget if self._budgets is None else self._budgets[index]
        kind: Callable[..., Layer] = BudgetLayer if self.policy.kind == EVICT else SelectLayer
        return kind(self.policy, index, budget, self.native_name)

    def fill(self, cache: Cache | None) -> Cache:
        """Return a cache whose full-attention layers obey the policy.

        Raises:
            ConfigError: the cache already holds tokens that the policy never saw, or it is that
                of a runner.
        """
        if cache is None:
            cache = DynamicCache(config=self.config)
        if not cache.layers:
            cache.layers = DynamicCache(config=self.config).layers
            cache.layer_class_to_replicate = None
        made = {}
        for index, layer in enumerate(cache.layers):
            if isinstance(layer, Layer) or not isinstance(layer, DynamicLayer):
                continue
            if layer.is_sliding:
                continue
            if isinstance(layer, SlotLayer) and not isinstance(layer, DenseLayer):
                raise ConfigError(
                    "a runner with a cache of its own reads past the policy",
                    hint="Runner(model, cache=attached.cache())",
                )
            if layer.get_seq_length():
                raise ConfigError(
                    "the cache already holds tokens that the policy did not see",
                    hint="start with an empty cache inside of `with attach(...)`",
                )
            cache.layers[index] = made[index] = self._make_layer(index)
        if made:
            self.track(made)
        return cache

    def release(self) -> None:
        """Let the caches made here refuse further tokens, and make no others."""
        self._is_active = False
        for layer in self._made:
            layer.is_active = False


@contextmanager
def attach(
    model: PreTrainedModel,
    policy: CachePolicy | str,
    *,
    layer_budgets: Sequence[int] | None = None,
) -> Iterator[Attached]:
    """Let a policy decide which context tokens a model keeps or attends to.

    Args:
        model: In evaluation mode, with sdpa or eager attention.
        policy: A policy, or the name of one with its defaults.
        layer_budgets: The budget of each layer of the model instead of the policy's.
    Raises:
        ConfigError: the budget exceeds the model's context, or the model is in training mode.
        UnknownMethodError: there is no such policy.
        UnsupportedModelError: the policy does not reach the attention of every layer.

    Example:
        >>> from jeton.kv.policies.streaming import Streaming
        >>> from jeton.testing.models import tiny_model
        >>> model = tiny_model("llama")
        >>> ids = torch.arange(40)[None]
        >>> with attach(model, Streaming(budget=16)) as attached:
        ...     output = model.generate(ids, max_new_tokens=4, do_sample=False)
        ...     attached.kept
        19.0
    """
    chosen = create_policy(policy) if isinstance(policy, str) else policy
    _check(model, chosen, layer_budgets)
    attached = Attached(model, chosen, layer_budgets)
    native_name = attached.native_name
    dense = _probe_forward(model)
    AttentionInterface.register(_PREFIX + native_name, _attention(native_name))
    AttentionMaskInterface.register(
        _PREFIX + native_name, ALL_MASK_ATTENTION_FUNCTIONS[native_name]
    )

    def before(module: Any, args: Any, kwargs: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
        if kwargs.get("use_cache") is False:
            raise ConfigError(
                "without a cache a policy has nothing to decide on",
                hint="leave out use_cache=False, or call the model outside of `attach`",
            )
        kwargs["past_key_values"] = attached.fill(kwargs.get("past_key_values"))
        return args, kwargs

    handle = model.register_forward_pre_hook(before, with_kwargs=True)
    try:
        model.set_attn_implementation(_PREFIX + native_name)
        with chosen.attached(model), guard_memory(model), _told_by_generate(attached):
            _check_reach(attached, dense)
            yield attached
    finally:
        model.set_attn_implementation(native_name)
        handle.remove()
        attached.release()


@contextmanager
def _told_by_generate(attached: Attached) -> Iterator[None]:
    """Let `generate` say which forwards read its prompt: the last chunk may be a single token."""
    model = attached.model
    native = getattr(model, "_prefill", None)
    if native is None:  # transformers may rename it; then a single token counts as decoding
        yield
        return

    @functools.wraps(native)
    def prefill(*args: Any, **kwargs: Any) -> Any:
        with attached.prompt():
            return native(*args, **kwargs)

    model.__dict__["_prefill"] = prefill
    try:
        yield
    finally:
        del model.__dict__["_prefill"]


def _attention(native_name: str) -> Callable[..., tuple[Tensor, Any]]:
    """Return the attention function that finds the layer by the mark on its keys."""

    def attention(
        module: Any, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, **options: Any
    ) -> tuple[Tensor, Any]:
        native = native_attention(native_name, module)
        layer = getattr(key, TAG, None)
        if layer is None:
            return native(module, query, key, value, mask, **options)
        if options.get("position_bias") is not None:
            raise UnsupportedModelError("attention with a bias by position knows no cache policy")
        if options.get("s_aux") is not None and "mass" in layer.policy.needs:
            raise UnsupportedModelError(
                f"{type(layer.policy).__name__} needs attention weights; this model adds learned "
                "sinks to them",
                hint="take a policy that scores keys, such as keydiff",
            )
        found: tuple[Tensor, Any] = layer.attend(module, query, mask, native, options)
        return found

    return attention


def _check(model: PreTrainedModel, policy: CachePolicy, budgets: Sequence[int] | None) -> None:
    """Refuse what cannot work, before any work."""
    config = model.config.get_text_config(decoder=True)
    name = type(model).__name__
    if model.training:
        raise ConfigError("the model is in training mode", hint="call model.eval() first")
    if getattr(model.config, "is_encoder_decoder", False) or not model.can_generate():
        raise UnsupportedModelError(
            f"{name} is no decoder with a cache", hint="use a causal language model"
        )
    native = str(getattr(config, "_attn_implementation", ""))
    if native.startswith(_PREFIX):
        raise ConfigError("a policy is already attached to this model")
    if native not in _NATIVE or not model._can_set_attn_implementation():
        raise UnsupportedModelError(
            f"the attention of {name} ({native or 'its own'}) cannot be replaced by name",
            hint="load the model with attn_implementation='sdpa', if it has it",
        )
    if budgets is not None and len(budgets) != config.num_hidden_layers:
        raise ConfigError(
            f"{len(budgets)} layer budgets for a model of {config.num_hidden_layers} layers"
        )
    least = policy.sinks + policy.recent
    longest = getattr(config, "max_position_embeddings", None)
    for budget in [policy.budget, *(budgets or [])]:
        if budget < least:
            raise ConfigError(f"a budget of {budget} is below sinks and recent tokens ({least})")
        if longest and budget > longest:
            raise ConfigError(
                f"a budget of {budget} tokens exceeds the context of {longest}",
                hint=f"take at most {longest}",
            )


def _probe_forward(model: PreTrainedModel) -> Tensor:
    """Return the logits of two tokens and then one more."""
    ids = torch.tensor([[1, 0, 1]], device=model.device)
    try:
        with torch.inference_mode():
            first = model(input_ids=ids[:, :2], use_cache=True)
            cache = first.past_key_values
            second = model(input_ids=ids[:, 2:], past_key_values=cache, use_cache=True)
    except UnsupportedModelError:
        raise
    except _PROBE_ERRORS as error:
        raise UnsupportedModelError(
            f"{type(model).__name__} takes no cache from outside: {error}",
            hint="use a causal language model of plain attention",
        ) from error
    return torch.cat([first.logits, second.logits], dim=1)


def _check_reach(attached: Attached, dense: Tensor) -> None:
    """Refuse a model in which a layer's attention never asks the policy.

    Raises:
        UnsupportedModelError: it does not, or the logits of two tokens are not the dense ones.
    """
    found = _probe_forward(attached.model)
    missed = [index for index, layer in attached.layers.items() if layer.attended != 2]
    if missed or not attached.layers or not torch.equal(found, dense):
        raise UnsupportedModelError(
            f"the attention of {type(attached.model).__name__} is out of reach for a cache policy"
            + (f" (layers {missed})" if missed else ""),
            hint="policies reach models whose full attention goes through transformers' interface",
        )
    attached.layers = {}
