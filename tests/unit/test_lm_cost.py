"""The cost table: medians by an injected clock, interpolation, refusals; and packed weights."""

import itertools

import pytest
import torch

from jeton.errors import ConfigError
from jeton.lm.cost import CostTable, measure_cost
from jeton.lm.lean_check import PLAN
from jeton.lm.pack import packed
from jeton.lm.runner import Runner
from jeton.lm.tree import TokenTree
from jeton.testing.models import tiny_model


def test_measures_each_size_with_the_given_clock():
    ticks = itertools.count()
    table = measure_cost(
        tiny_model("llama"), (4, 1, 2), context=9, repeats=3, clock=lambda: float(next(ticks))
    )
    assert (table.sizes, table.seconds) == ([1, 2, 4], [1.0, 1.0, 1.0])
    assert (table.context, table.dtype) == (9, "float32")
    assert next(ticks) == 2 * 3 * (3 + 1)


def test_sizes_without_room_are_left_out_and_a_runner_is_left_alone():
    runner = Runner(tiny_model("gpt2"), max_length=10)
    runner.prefill([5, 6])
    table = measure_cost(runner, (1, 4, 16), context=5, repeats=1)
    assert table.sizes == [1, 4]
    assert runner.token_ids == [5, 6]


def test_interpolates_and_extends():
    table = CostTable([1, 2, 4], [1.0, 1.5, 2.0], 0, "toy", "float32")
    assert [table.seconds_for(n) for n in (1, 2, 3, 4, 6)] == [1.0, 1.5, 1.75, 2.0, 2.5]
    assert table.ratio(3) == 1.75
    assert CostTable([1, 2], [2.0, 1.0], 0, "toy", "float32").seconds_for(9) == 1.0
    assert CostTable([3], [2.0], 0, "toy", "float32").seconds_for(9) == 2.0


def test_bad_tables_are_refused():
    for sizes, seconds in (([], []), ([2, 1], [1.0, 1.0]), ([0], [1.0]), ([1], [])):
        with pytest.raises(ConfigError):
            CostTable(sizes, seconds, 0, "toy", "float32")
    with pytest.raises(ConfigError):
        CostTable([1], [1.0], 0, "toy", "float32").seconds_for(0)
    with pytest.raises(ConfigError):
        measure_cost(tiny_model("llama"), ())


def test_packed_weights_give_the_same_logits_and_are_removed():
    model = tiny_model("llama", hidden_size=64, intermediate_size=96).to(torch.bfloat16)
    ids = torch.arange(20)[None]
    with torch.inference_mode():
        before = model(ids).logits
        with packed(model) as num_packed:
            inside = model(ids).logits
    assert num_packed in (0, 15)  # 7 layers in each of two blocks and the head, or no oneDNN
    torch.testing.assert_close(inside, before, atol=0.1, rtol=0.05)
    assert not any("forward" in vars(module) for module in model.modules())


def test_packed_weights_keep_gradients_and_restore_after_an_error():
    model = tiny_model("llama").to(torch.bfloat16)
    with pytest.raises(KeyError), packed(model):
        model(torch.arange(4)[None]).logits.sum().backward()
        assert model.lm_head.weight.grad is not None
        raise KeyError
    assert not any("forward" in vars(module) for module in model.modules())


@pytest.mark.parametrize("family", ["llama", "gemma2"])  # one plan for all, layer by layer
def test_packed_float32_gives_the_same_logits(family):
    model, tree = tiny_model(family), TokenTree.from_paths([[4, 5], [4, 6, 7]])
    runner = Runner(model)
    runner.prefill([1, 2, 3])
    before = runner.verify(tree).logits
    with packed(model) as num_packed:
        inside = Runner(model)
        inside.prefill([1, 2, 3])
        torch.testing.assert_close(inside.verify(tree).logits, before, atol=1e-5, rtol=0)
    assert num_packed == 15
    assert PLAN not in vars(model)


def test_packing_leaves_other_dtypes_alone():
    with packed(tiny_model("llama").double()) as num_packed:
        assert num_packed == 0
