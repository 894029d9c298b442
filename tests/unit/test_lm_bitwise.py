"""Bits of single steps in wide forwards, near ties where that is not promised."""

import pytest
import torch

from jeton.decoding.contract import Sampling
from jeton.decoding.create import default_verifier
from jeton.decoding.engine import DecodingLoop
from jeton.lm.bitwise import check_bitwise, near_tie_margin
from jeton.lm.lean_fused import FusedForward
from jeton.lm.load import load_model
from jeton.lm.pack import packed
from jeton.lm.packed_linear import has_bf16_instructions
from jeton.lm.runner import Runner
from jeton.lm.tree import TokenTree
from jeton.testing.decoding import tiny_language_model
from jeton.testing.identity import check_identity
from jeton.testing.models import tiny_model


@pytest.mark.parametrize("family", ["llama", "qwen2", "qwen3"])
@pytest.mark.parametrize("heads", [(4, 2), (4, 4), (4, 1)], ids=str)
def test_packed_float32_has_the_bits_of_single_steps(family, heads):
    model = tiny_model(
        family, num_attention_heads=heads[0], num_key_value_heads=heads[1], head_dim=8
    )
    with packed(model):
        runner = Runner(model)
        found = check_bitwise(runner)
    assert found.holds, found.reason
    assert (found.max_nodes, found.worst) == (32, 0.0)
    assert runner.is_exact(TokenTree([1] * 32, [-1] * 32))
    assert not runner.is_exact(TokenTree([1] * 33, [-1] * 33))


def test_long_texts_are_exact_but_for_trees_across_a_border_of_sums():
    model, ids = tiny_model("llama", max_position_embeddings=1024), [i * i % 61 for i in range(430)]
    with packed(model):
        runner = Runner(model)
        for length in (310, 400):
            runner.truncate(min(runner.length, 310))
            runner.prefill(ids[runner.length : length])
            steps = runner.fork()
            right = []
            for token_id in ids[length : length + 16]:
                right.append(steps.verify(TokenTree.chain([token_id])).logits[0])
                steps.commit([0])
            chain = TokenTree.chain(ids[length : length + 16])
            assert runner.is_exact(chain)
            assert torch.equal(runner.verify(chain).logits, torch.stack(right))
            runner.commit([])
            tree = TokenTree.from_paths([[7, 7, 7], ids[length : length + 12]])
            assert runner.is_exact(tree) == (length == 400)
            found = runner.verify(tree).logits[3:]
            if runner.is_exact(tree):
                assert torch.equal(found, torch.stack(right[:12]))
            torch.testing.assert_close(found, torch.stack(right[:12]), atol=1e-5, rtol=0)
            runner.commit([])


def test_the_check_finds_what_rounds_differently():
    runner = Runner(tiny_model("gpt2"))
    found = check_bitwise(runner)
    assert not found.holds
    assert 0 < found.worst < 1e-4
    assert "round differently" in found.reason
    assert not runner.is_exact(TokenTree.chain([1]))
    assert runner.length == 0


@pytest.fixture(scope="module")
def starter():
    return load_model("starter", dtype="bfloat16")


def run(lm, prompt, drafter, count=16):
    loop = DecodingLoop(
        lm, drafter=drafter, verifier=default_verifier(Sampling()), sampling=Sampling()
    )
    return [i for new in loop.run(prompt, count) for i in new], loop.stats


@pytest.mark.skipif(has_bf16_instructions(), reason="bf16 products are the processor's own here")
def test_starter_in_bf16_says_the_same_with_any_draft(starter):
    with packed(starter.model):
        assert isinstance(Runner(starter.model)._lean, FusedForward)
        greedy = check_identity(starter, 12)
        sampled = check_identity(starter, 4, sampling=Sampling(temperature=0.8, top_p=0.95))
    assert (greedy.same_with_chains, greedy.same_with_trees) == (12, 12)
    assert (sampled.same_with_chains, sampled.same_with_trees) == (4, 4)
    assert greedy.num_accepted > 100
    assert greedy.num_near_ties == 0


def test_near_ties_are_counted_where_bits_are_not_promised():
    lm = tiny_language_model("gpt2")
    lm.model.to(torch.bfloat16)
    _, stats = run(lm, [1, 2, 3], None, count=40)
    rows = torch.tensor([[4.0, 3.99], [4.0, 3.0]])
    assert (rows[:, 0] - rows[:, 1] <= near_tie_margin(rows, torch.bfloat16)).tolist() == [
        True,
        False,
    ]
    assert 0 < stats.num_near_ties < 40
    _, stats = run(tiny_language_model("gpt2"), [1, 2, 3], None, count=40)
    assert stats.num_near_ties == 0
