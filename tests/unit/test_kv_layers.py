"""What the policy layers do beneath the laws: packed weights, windows of queries."""

import pytest
import torch
from torch import nn
from transformers import AutoModelForMaskedLM, BertConfig, T5Config

from jeton.errors import ConfigError, UnsupportedModelError
from jeton.kv import Cache, attach, create_policy
from jeton.kv.contract import Rows
from jeton.kv.evict import window_mass
from jeton.kv.mass import attention_logits, causal_mass
from jeton.kv.policies.streaming import Streaming
from jeton.lm.pack import packed
from jeton.lm.runner import Runner
from jeton.testing.models import tiny_model


def test_packed_layers_serve_forwards_that_no_runner_makes():
    model = tiny_model("llama")
    ids = torch.arange(1, 41)[None]
    layers = [module for module in model.modules() if type(module) is nn.Linear]
    policy = create_policy("snapkv", budget=24, options={"recent": 8})
    with torch.inference_mode(), attach(model, policy):
        wanted = model(ids).logits
    with packed(model, lean=False) as count, torch.inference_mode(), attach(model, policy):
        assert count == len(layers)
        assert all("forward" in vars(layer) for layer in layers)
        found = model(ids).logits
    assert not any("forward" in vars(layer) for layer in layers)
    assert torch.allclose(found, wanted, atol=1e-5)


@pytest.mark.parametrize("length", [3, 9])
def test_window_mass_is_that_of_masked_attention(length):
    generator = torch.Generator().manual_seed(0)
    queries = torch.randn(2, 4, 5, 8, generator=generator)
    keys = torch.randn(2, 2, 9, 8, generator=generator)
    pads = torch.tensor([0, 9 - length])
    positions = (torch.arange(9) - pads[:, None])[:, None].expand(2, 2, 9)
    rows = Rows(keys, keys, positions, 9 - pads, queries=queries, scaling=0.4)
    logits = queries @ keys.repeat_interleave(2, 1).transpose(2, 3) * 0.4
    own = (9 - pads)[:, None] - 5 + torch.arange(5)
    places = positions[:, :1, None]
    seen = (places >= 0) & (places <= own[:, None, :, None])
    weights = torch.softmax(logits.masked_fill(~seen, -torch.inf), -1).nan_to_num(0.0)
    wanted = weights.sum(2).view(2, 2, 2, 9).mean(2)
    assert torch.allclose(window_mass(rows, 5), wanted, atol=1e-6)


def test_mass_of_bf16_is_near_that_of_float32():
    generator = torch.Generator().manual_seed(0)
    query, keys = (torch.randn(1, n, 70, 8, generator=generator).bfloat16() for n in (4, 2))
    found = causal_mass(query, keys, scaling=0.3, softcap=5.0)
    wanted = causal_mass(query.float(), keys.float(), scaling=0.3, softcap=5.0)
    assert found.dtype == torch.float32
    assert torch.allclose(found, wanted, rtol=0.02, atol=0.02)
    logits = attention_logits(query[:, :, :1], keys, 0.3)
    exact = attention_logits(query[:, :, :1].float(), keys.float(), 0.3)
    assert torch.allclose(logits, exact, rtol=0.02, atol=0.02)


def test_encoders_are_refused():
    sizes = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 4, "vocab_size": 64}
    config = BertConfig(**sizes, intermediate_size=64)
    with pytest.raises(UnsupportedModelError, match="bert is an encoder"):
        Cache(config)
    with pytest.raises(UnsupportedModelError, match="encoder-decoder"):
        Cache(T5Config(**sizes))
    model = AutoModelForMaskedLM.from_config(config).eval()
    with pytest.raises(UnsupportedModelError, match="no decoder"):
        attach(model, Streaming(budget=16)).__enter__()
    assert Cache(tiny_model("gpt_neox").config).layers


@pytest.mark.parametrize("name", ["streaming", "recycled_attention"])
def test_a_cache_that_moves_is_refused_before_any_work(name):
    model = tiny_model("llama")
    policy = create_policy(name, budget=16, options={"recent": 8})
    dense = Cache(model.config)
    model(torch.arange(3)[None], past_key_values=dense)
    with attach(model, policy) as attached:
        ours = model(torch.arange(20)[None], use_cache=True).past_key_values
        for cache in (ours, dense):
            length = cache.get_seq_length()
            elsewhere, other = (torch.zeros(1, 2, 1, 8, device=d) for d in ("meta", "cpu"))
            with pytest.raises(ConfigError, match="device cpu, the new ones are on device meta"):
                cache.layers[0].update(elsewhere, elsewhere)
            with pytest.raises(ConfigError, match=r"dtype torch\.float32.*dtype torch\.float64"):
                cache.layers[0].update(other.double(), other.double())
            with pytest.raises(ConfigError, match="1 texts, the new tokens are of 2"):
                cache.layers[0].update(other.expand(2, 2, 1, 8), other.expand(2, 2, 1, 8))
            assert cache.get_seq_length() == length
        for change in ("reorder_cache", "batch_select_indices", "batch_repeat_interleave"):
            with pytest.raises(ConfigError, match="no beams"):
                getattr(ours.layers[0], change)(torch.tensor([0]))
        assert attached.layers


def test_a_policy_is_never_silently_dense():
    model, other = tiny_model("llama"), tiny_model("llama")
    with attach(model, Streaming(budget=16)) as attached:
        with pytest.raises(ConfigError, match="nothing to decide on"):
            model(torch.arange(4)[None], use_cache=False)
        with pytest.raises(ConfigError, match="not attached to this model"):
            Runner(other, cache=attached.cache())
        held = Runner(model, cache=attached.cache())
        held.prefill([1, 2, 3])
    with pytest.raises(ConfigError, match="not attached to this model"):
        Runner(model, cache=attached.cache())
    with pytest.raises(ConfigError, match="no longer attached"):
        held.prefill([4])
