"""Every registered cache policy keeps the laws of its contract."""

import pytest

from jeton.kv import attach
from jeton.kv.harness import ask, chain_model, draw_contexts
from jeton.kv.registry import POLICIES, create_policy
from jeton.kv.tasks import EACH_KEY
from jeton.testing.kv import LAWS, check_dense_within_budget
from jeton.testing.kv_baselines import Oracle, RandomRows, attention_of_questions
from jeton.testing.kv_reach import REACH, is_reached

SMALL = {"sinks": 2, "recent": 8}
CASES = {
    "streaming": {"sinks": 2},
    "page_bounds": {**SMALL, "page": 4},
    "tokenselect": {**SMALL, "prompt_chunk": 8},
    "recycled_attention": {**SMALL, "period": 5, "similarity": 0.3},
}


def small_policy(name, budget=28):
    options = dict(CASES.get(name, SMALL))
    if "stride" in POLICIES.load(name).__dataclass_fields__:
        options["stride"] = 6
    return create_policy(name, budget=budget, options=options)


@pytest.mark.parametrize("law", LAWS, ids=lambda law: law.__name__)
@pytest.mark.parametrize("name", POLICIES.names())
def test_law(name, law):
    law(small_policy(name))


@pytest.mark.parametrize("family", ["gemma2", "qwen3", "gpt2"])
def test_dense_within_budget_in_other_families(family):
    check_dense_within_budget(small_policy("h2o"), family)
    check_dense_within_budget(small_policy("recycled_attention"), family)


def test_families_are_reached_or_cleanly_refused():
    reached = {name for name in REACH if is_reached(name)}
    assert len(REACH) >= 30
    assert {"llama", "qwen3", "gemma2", "gpt2", "phi3", "glm4"} <= reached
    assert not {"gptj", "bloom", "mpt", "codegen", "mamba"} & reached


def test_policies_that_claim_it_rank_as_their_papers_say():
    model, contexts = chain_model(), draw_contexts(4, 512, seed=5)
    small = {"sinks": 4, "recent": 16}

    def right(name, **options):
        with attach(model, create_policy(name, budget=128, options={**small, **options})):
            return ask(model, contexts, EACH_KEY)

    heavy, window = right("h2o"), right("streaming", recent=1)
    assert right("tokenselect") == 1.0
    assert right("page_bounds") > 0.9
    assert right("a2sf") > heavy + 0.1
    assert right("keyformer") > heavy + 0.1
    assert right("recycled_attention") > heavy > window + 0.1


@pytest.mark.parametrize("budget", [128, 64])
def test_baselines_are_where_they_must_be(budget):
    model, contexts = chain_model(), draw_contexts(4, 512, seed=5)
    attention = attention_of_questions(model, contexts)
    assert ask(model, contexts, EACH_KEY) == 1.0
    with attach(model, Oracle(budget=budget, sinks=0, recent=4, attention=attention)):
        assert ask(model, contexts, EACH_KEY) == 1.0
    with attach(model, RandomRows(budget=budget, sinks=0, recent=4)):
        drawn = ask(model, contexts, EACH_KEY)
    lost = 1 - budget / 512  # either of two rows answers
    assert abs(drawn - (1 - lost**2)) < 0.12
