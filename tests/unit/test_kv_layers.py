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
from jeton.kv.window import QueryWindow
from jeton.lm.pack import packed
from jeton.lm.runner import Runner
from jeton.lm.tree import TokenTree
from jeton.testing.kv import model_for_laws
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
        with pytest.raises(ConfigError, match="cache of its own"):
            Runner(model).prefill([1, 2, 3])
        held = Runner(model, cache=attached.cache())
        held.prefill([1, 2, 3])
    with pytest.raises(ConfigError, match="not attached to this model"):
        Runner(model, cache=attached.cache())
    with pytest.raises(ConfigError, match="no longer attached"):
        held.prefill([4])


def test_mass_knows_the_softcap_and_what_is_added():
    generator = torch.Generator().manual_seed(0)
    query = torch.randn(1, 2, 6, 8, generator=generator)
    keys = torch.randn(1, 1, 6, 8, generator=generator)
    added = torch.randn(2, 1, 6, generator=generator)
    logits = 0.8 * torch.tanh(query[0] @ keys[0].transpose(1, 2) * 0.5 / 0.8) + added
    later = torch.ones(6, 6, dtype=torch.bool).triu(1)
    wanted = torch.softmax(logits.masked_fill(later, -torch.inf), -1).sum((0, 1))
    found = causal_mass(
        *(query, keys),
        scaling=0.5,
        softcap=0.8,
        adjust=lambda text, head, block: block + added[..., : block.shape[-1]],
    )
    assert torch.allclose(found[0, 0], wanted, atol=1e-5)


def test_the_dense_cache_repeats_and_picks_texts():
    cache = Cache(tiny_model("llama").config)
    rows = torch.arange(2.0).view(2, 1, 1, 1).expand(2, 2, 3, 8)
    cache.update(rows, -rows, 0)
    cache.batch_repeat_interleave(2)
    assert cache.layers[0].keys[:, 0, 0, 0].tolist() == [0, 0, 1, 1]
    cache.batch_select_indices(torch.tensor([3, 0]))
    assert cache.layers[0].keys[:, 0, 0, 0].tolist() == [1, 0]
    assert cache.layers[0].values[:, 0, 0, 0].tolist() == [-1, 0]


def test_the_window_holds_the_last_queries_whatever_the_chunks():
    generator = torch.Generator().manual_seed(0)
    window, every = QueryWindow(5), torch.zeros(1, 2, 0, 4)
    for size in (2, 9, 1, 1, 3, 4, 1, 5, 2, 1, 1, 1, 6):
        new = torch.randn(1, 2, size, 4, generator=generator)
        window.add(new)
        every = torch.cat([every, new], dim=2)
        assert torch.equal(window.last(), every[:, :, -5:])


@pytest.mark.parametrize("family", ["llama", "gemma2"])
@pytest.mark.parametrize("name", ["snapkv", "recycled_attention"])
def test_trees_within_the_budget_have_the_logits_of_the_dense_runner(name, family):
    model = model_for_laws(family)
    tree = TokenTree.from_paths([[5, 6, 7], [5, 8], [9, 10]])
    policy = create_policy(name, budget=256, options={"recent": 8})
    paths = ([0, 3], [4, 5], [])

    def read(runner):
        runner.prefill(list(range(1, 21)))
        for path in paths:
            yield runner.verify(tree).logits
            runner.commit(path)
        runner.reset()

    wanted = list(read(Runner(model, lean=False)))
    with attach(model, policy) as attached:
        runner = Runner(model, cache=attached.cache())
        for found in (list(read(runner)), list(read(runner))):  # and once more after a reset
            for ours, theirs in zip(found, wanted, strict=True):
                assert float((ours - theirs).abs().max()) < 1e-4
        full = [i for i, layer in enumerate(attached.fill(None).layers) if not layer.is_sliding]
        assert sorted(attached.layers) == full


def test_a_fork_is_shown_when_it_reads():
    model = tiny_model("llama")
    with attach(model, Streaming(budget=16)) as attached:
        runner = Runner(model, cache=attached.cache())
        runner.prefill(list(range(1, 31)))
        first, twin = attached.layers, runner.fork()
        twin.prefill([5])
        assert attached.layers is not first
        assert {id(layer) for layer in attached.layers.values()}.isdisjoint(
            id(layer) for layer in first.values()
        )


def test_a_draft_ends_at_the_stride():
    model = tiny_model("llama")
    with attach(model, Streaming(budget=16, recent=4, stride=6)) as attached:
        runner = Runner(model, cache=attached.cache())
        runner.prefill(list(range(1, 31)))
        for room in (6, 5, 4, 3, 2, 1, 6):
            assert runner.room == room
            with pytest.raises(ConfigError, match=f"takes {room} now"):
                runner.verify(TokenTree.chain([1] * (room + 1)))
            runner.verify(TokenTree.chain([1]))
            runner.commit([0])


def test_a_second_prompt_forgets_what_was_chosen():
    model = tiny_model("llama")
    policy = create_policy("recycled_attention", budget=24, options={"recent": 8, "period": 64})
    with attach(model, policy) as attached, torch.inference_mode():
        cache = model(torch.arange(1, 41)[None], use_cache=True).past_key_values
        for size in (1, 1, 5, 1, 1):
            model(torch.arange(1, size + 1)[None], past_key_values=cache)
        assert [layer.num_full for layer in attached.layers.values()] == [2, 2]


def test_attach_leaves_no_trace():
    model = tiny_model("llama")
    ids = torch.arange(1, 31)[None]
    wanted = model(ids, use_cache=True)
    with attach(model, Streaming(budget=16)):
        model(ids, use_cache=True)
    found = model(ids, use_cache=True)
    assert torch.equal(found.logits, wanted.logits)
    kinds = [type(layer) for layer in found.past_key_values.layers]
    assert kinds == [type(layer) for layer in wanted.past_key_values.layers]
    assert not model._forward_pre_hooks
    assert model.config._attn_implementation == "sdpa"


def test_a_branch_takes_its_positions_along():
    model = tiny_model("llama")
    with attach(model, Streaming(budget=16, recent=4, stride=6)) as attached:
        runner = Runner(model, cache=attached.cache())
        runner.prefill(list(range(1, 31)))
        runner.verify(TokenTree.from_paths([[5], [6, 7]]))
        runner.commit([1, 2])
        for layer in attached.layers.values():
            store = layer.stores[0]
            assert store.positions[0, 0, store.used - 3 : store.used].tolist() == [29, 30, 31]
