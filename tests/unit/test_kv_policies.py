"""Worked examples of every policy, and what they refuse."""

import json
import math
from pathlib import Path

import pytest
import torch

from jeton.errors import ConfigError, UnknownMethodError, UnsupportedModelError
from jeton.kv import attach, create_policy
from jeton.kv.contract import Choice, Rows
from jeton.kv.mass import causal_mass
from jeton.kv.policies.streaming import Streaming
from jeton.kv.registry import POLICIES
from jeton.kv.select import SelectPolicy
from jeton.testing.kv import model_for_laws
from jeton.testing.models import tiny_model

GOLDEN = Path(__file__).resolve().parents[1] / "golden" / "kv"
EVICTING = [name for name in POLICIES.names() if POLICIES.load(name).kind == "evict"]
SELECTING = [name for name in POLICIES.names() if name not in EVICTING]


def _golden(name):
    return json.loads((GOLDEN / f"{name}.json").read_text(encoding="utf-8"))


def _rows(case):
    keys = torch.tensor(case["keys"], dtype=torch.float64)[None, None]
    num_rows = keys.shape[2]
    mass = case.get("mass")
    queries = case.get("queries")
    return Rows(
        keys=keys,
        values=keys,
        positions=torch.arange(num_rows)[None, None],
        lengths=torch.tensor([num_rows]),
        mass=None if mass is None else torch.tensor(mass)[None, None],
        queries=None if queries is None else torch.tensor(queries, dtype=torch.float64)[None, None],
        scaling=1.0,
    )


@pytest.mark.parametrize("name", EVICTING)
def test_scores_of_the_worked_example(name):
    case = _golden(name)
    policy = create_policy(name, budget=case["budget"], options=case["options"])
    found = policy.score(_rows(case))[0, 0]
    wanted = torch.tensor(case["scores"], dtype=found.dtype)
    assert torch.allclose(found, wanted, atol=1e-5), found


@pytest.mark.parametrize("name", SELECTING)
def test_choice_of_the_worked_example(name):
    case = _golden(name)
    policy = create_policy(name, budget=case["budget"], options=case["options"])
    rows = _rows(case)
    rows = Rows(rows.keys, rows.values, rows.positions, rows.lengths + 1, scaling=1.0)
    query = torch.tensor(case["query"], dtype=torch.float64)[None]
    choice = policy.choose(None, query, rows)
    if choice.selection is None:
        choice = policy.choose(choice.state, query, rows)
    assert choice.selection.columns.tolist() == [case["columns"]]
    assert choice.selection.since == case["since"]


@pytest.mark.parametrize("decay", [1.0, 0.5])
def test_causal_mass_is_the_column_sum_of_the_matrix(decay):
    generator = torch.Generator().manual_seed(0)
    query = torch.randn(2, 4, 40, 8, generator=generator)
    keys = torch.randn(2, 2, 50, 8, generator=generator)
    logits = query @ keys.repeat_interleave(2, 1).transpose(2, 3) * 0.3
    seen = torch.ones(40, 50, dtype=torch.bool).tril(10).repeat(2, 1, 1, 1)
    seen[1, :, :, :3] = False
    weights = decay ** torch.arange(39, -1, -1.0)
    attention = torch.softmax(logits.masked_fill(~seen, -torch.inf), -1) * weights[:, None]
    wanted = attention.sum(2).view(2, 2, 2, 50).sum(2)
    found = causal_mass(query, keys, scaling=0.3, pads=[0, 3], decay=decay)
    assert float((found - wanted).abs().max()) < 1e-5


def test_evicted_rows_are_as_masked_ones():
    model = model_for_laws()
    ids = torch.arange(1, 61)[None]
    seen = torch.ones(60, 60, dtype=torch.bool).tril()
    seen[40:, 3:23] = False
    wanted = model(input_ids=ids, attention_mask=seen[None, None], use_cache=False).logits[0, 40:]
    found, cache = [], None
    with attach(model, Streaming(budget=20, sinks=3, stride=64)), torch.inference_mode():
        for start, end in [(0, 40), *((i, i + 1) for i in range(40, 60))]:
            output = model(input_ids=ids[:, start:end], past_key_values=cache, use_cache=True)
            cache = output.past_key_values
            found.append(output.logits[0, -1])
    assert float((torch.stack(found[1:]) - wanted.detach()).abs().max()) < 1e-9


def test_defaults_are_those_of_the_papers():
    assert create_policy("h2o", budget=100).recent == 50
    assert create_policy("keyformer", budget=100).recent == 30
    wide = create_policy("tokenselect")
    assert (wide.budget, wide.sinks, wide.recent) == (128 + 2048 + 512, 128, 512)
    assert create_policy("snapkv").window == create_policy("adakv").window == 64
    assert create_policy("tova").window == 1


def test_keyformer_warms_up_to_twice_the_temperature():
    policy = create_policy("keyformer")
    assert [policy.temperature(step) for step in (0, 10, 100, 1000)] == [1.0, 1.1, 2.0, 2.0]


def test_keyformer_adds_standard_gumbel_noise():
    noise = create_policy("keyformer").noise(0, 4, 20_000)
    assert abs(float(noise.mean()) - 0.5772) < 0.02  # Euler's constant
    assert abs(float(noise.var()) - math.pi**2 / 6) < 0.05


def _full_steps(policy, queries):
    """Return which steps of a growing text read all keys."""
    generator = torch.Generator().manual_seed(0)
    keys = torch.randn(1, 1, 200, 4, generator=generator)
    found, state = [], None
    for step, query in enumerate(queries):
        length = 100 + step
        seen = keys[:, :, : length - 1]
        positions = torch.arange(length - 1)[None, None]
        rows = Rows(seen, seen, positions, torch.tensor([length]), scaling=0.5)
        choice = policy.choose(state, query, rows)
        state = choice.state
        found.append(choice.is_full)
    return found


def test_recycled_attention_takes_a_full_step_per_period_and_for_unlike_queries():
    alike = [torch.tensor([[1.0, 0, 0, 0], [0, 1.0, 0, 0]])] * 9
    policy = create_policy("recycled_attention", budget=40, options={"period": 4})
    assert _full_steps(policy, alike) == [step % 4 == 0 for step in range(9)]
    turned = [*alike[:2], *[-alike[0]] * 3]
    options = {"period": 99, "similarity": 0.5}
    dynamic = create_policy("recycled_attention", budget=40, options=options)
    assert _full_steps(dynamic, turned) == [True, False, True, False, False]


def test_tokenselect_votes_again_for_unlike_queries_and_when_its_window_has_doubled():
    alike = [torch.tensor([[1.0, 0, 0, 0], [0, 1.0, 0, 0]])] * 12
    options = {"sinks": 4, "recent": 8}
    policy = create_policy("tokenselect", budget=40, options=options)
    assert _full_steps(policy, alike) == [step in (0, 9) for step in range(12)]
    turned = [*alike[:2], *[alike[0].flip(0)] * 2]
    assert _full_steps(policy, turned) == [True, False, True, False]


def test_heads_of_tokenselect_vote_softly():
    keys = torch.tensor([[10.0, 0], [5, 5.5], [0, 9], [0, 0]])[None, None]
    rows = Rows(keys, keys, torch.arange(4)[None, None], torch.tensor([5]), scaling=1.0)
    policy = create_policy("tokenselect", budget=2, options={"sinks": 0, "recent": 1})
    columns = policy.choose(None, torch.eye(2), rows).selection.columns
    assert columns.tolist() == [[0]]  # the sum of the logits would choose token 1


def test_adakv_divides_the_budget_and_saves_the_memory():
    policy = create_policy("adakv", budget=4, options={"recent": 1, "floor": 0.25})
    scores = torch.tensor([[9.0, 8, 7, 6, 5, float("inf")], [1.0, 0, 0, 0, 0, float("inf")]])
    assert policy.head_budgets(scores, 4) == [6, 2]
    fair = create_policy("adakv", budget=4, options={"recent": 1, "floor": 0.75})
    assert fair.head_budgets(scores, 4) == [5, 3]


def test_layer_budgets_are_kept():
    model = tiny_model("llama")
    with attach(model, Streaming(budget=16), layer_budgets=[12, 24]) as attached:
        model.generate(torch.arange(1, 41)[None], max_new_tokens=4, do_sample=False)
        assert [layer.stores[0].budget for layer in attached.layers.values()] == [12, 24]


@pytest.mark.parametrize("chunk", [1, 3])  # 40 tokens: the last chunk of 3 is a single token
def test_generate_reads_prompts_in_chunks_of_any_size(chunk):
    model = tiny_model("llama")
    ids = torch.arange(1, 41)[None]
    options = {"max_new_tokens": 4, "do_sample": False}
    with attach(model, Streaming(budget=16)) as attached:
        wanted = model.generate(ids, **options)
        found = model.generate(ids, prefill_chunk_size=chunk, **options)
        assert {layer.num_evictions for layer in attached.layers.values()} == {1}
        assert {layer.prompt_end for layer in attached.layers.values()} == {40}
    assert torch.equal(found, wanted)
    assert "_prefill" not in model.__dict__


def test_blocks_without_a_choice_attend_to_everything():
    class Blocks(SelectPolicy):
        chunk = 8

        def choose(self, state, query, rows):
            return Choice(None, None, True)

    model = model_for_laws()
    ids = torch.arange(1, 61)[None]
    with torch.inference_mode():
        wanted = model(ids).logits
        with attach(model, Blocks(budget=16, sinks=2, recent=8)):
            found = model(ids, use_cache=True).logits
    assert float((found - wanted).abs().max()) < 1e-9


def test_bad_input_is_refused_before_any_work():
    model = tiny_model("llama")
    with pytest.raises(ConfigError, match="budget of 10 tokens"):
        create_policy("snapkv", budget=10)
    with pytest.raises(ConfigError, match="budget of -1"):
        create_policy("tokenselect", budget=-1)
    with pytest.raises(UnknownMethodError, match="snapvk"):
        create_policy("snapvk")
    with pytest.raises(ConfigError, match="exceeds the context"), attach(model, "streaming"):
        pass
    with pytest.raises(ConfigError, match="3 layer budgets"):
        attach(model, Streaming(budget=16), layer_budgets=[9, 9, 9]).__enter__()
    with pytest.raises(ConfigError, match="below sinks"):
        attach(model, Streaming(budget=16), layer_budgets=[9, 2]).__enter__()
    with pytest.raises(ConfigError, match="training mode"):
        attach(tiny_model("llama").train(), Streaming(budget=16)).__enter__()
    assert model.config._attn_implementation == "sdpa"


def test_a_cache_of_another_world_is_refused():
    model = tiny_model("llama")
    filled = model(torch.arange(4)[None], use_cache=True).past_key_values
    with attach(model, Streaming(budget=16)):
        with pytest.raises(ConfigError, match="did not see"):
            model(torch.arange(4)[None], past_key_values=filled)
        ours = model(torch.arange(4)[None], use_cache=True).past_key_values
        with pytest.raises(ConfigError, match="2"):
            model(torch.arange(8).reshape(2, 4), past_key_values=ours)
        with pytest.raises(ConfigError, match="already attached"):
            attach(model, Streaming(budget=16)).__enter__()
        mask = torch.tensor([[1, 1, 1, 0]])
        with pytest.raises(ConfigError, match="padded on the left"):
            model(torch.arange(4)[None], attention_mask=mask, use_cache=True)
    with pytest.raises(ConfigError, match="no longer attached"):
        model(torch.arange(1)[None], past_key_values=ours)


def test_models_out_of_reach_are_refused():
    with pytest.raises(UnsupportedModelError):
        attach(tiny_model("mamba"), Streaming(budget=16)).__enter__()
