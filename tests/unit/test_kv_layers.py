"""What the policy layers do beneath the laws: packed weights, windows of queries."""

import pytest
import torch
from torch import nn

from jeton.kv import attach, create_policy
from jeton.kv.contract import Rows
from jeton.kv.evict import window_mass
from jeton.kv.mass import attention_logits, causal_mass
from jeton.lm.pack import packed
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
