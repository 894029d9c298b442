"""Judge Decoding: what the head decides, and heads that cannot be used."""

import json

import pytest
import torch
from safetensors.torch import save_file

from jeton.decoding.contract import Sampling
from jeton.decoding.generation import generate
from jeton.decoding.registry import VERIFIERS
from jeton.errors import CheckpointError, ConfigError, InputError, UnsupportedModelError
from jeton.lm.tree import TokenTree
from jeton.testing.decoding import Adversary, tiny_language_model


class Rows:
    """Logits and hidden states of a tree, given by hand."""

    def __init__(self, wanted, hidden):
        self.wanted, self.hidden = wanted, torch.tensor(hidden)

    def __getitem__(self, node):
        return torch.eye(9)[self.wanted[node]]


def head_of(weight, bias=0.0):
    return torch.tensor(weight), torch.tensor([bias])


def test_the_head_decides_where_the_target_disagrees():
    """Root 0, children 1 (token 4), 2 (token 5); below 2 stands 3 (token 6)."""
    tree = TokenTree([1, 4, 5, 6], [-1, 0, 0, 2])
    judge = VERIFIERS.create("judge", {"weights": head_of([1.0, 0.0])})
    rows = Rows([8, 8, 8, 7], [[0.0, 0.0], [-1.0, 0.0], [2.0, 0.0], [-2.0, 0.0]])
    chosen = judge.select(tree, rows, 10)
    assert (chosen.path, chosen.next_token) == ((0, 2), 8)
    agreed = judge.select(tree, Rows([4, 8, 8, 7], rows.hidden.tolist()), 10)
    assert (agreed.path, agreed.next_token) == ((0, 1), 8)  # the target's own token comes first
    strict = VERIFIERS.create("judge", {"weights": head_of([1.0, 0.0]), "threshold": 0.9})
    assert strict.select(tree, rows, 10).path == (0,)  # sigmoid(2) = 0.88


def test_a_head_that_likes_everything_keeps_every_draft():
    lm = tiny_language_model("llama")
    wrong = [5, 6, 7, *([9] * 30)]
    options = {"max_new_tokens": 12, "stop_ids": [], "num_draft_tokens": 4}
    options["drafter"] = Adversary(wrong, truth=1.0, makes_trees=False)
    plain = generate(lm, [5, 6, 7], **options)
    always = VERIFIERS.create("judge", {"weights": head_of([0.0] * 32, 9.0)})
    judged = generate(lm, [5, 6, 7], verifier=always, **options)
    assert judged.token_ids != plain.token_ids
    assert judged.stats.acceptance_rate == 1.0


def test_heads_are_loaded_and_checked(tmp_path):
    save_file({"weight": torch.ones(1, 3), "bias": torch.zeros(1)}, tmp_path / "model.safetensors")
    with pytest.raises(InputError, match="no readable head"):
        VERIFIERS.create("judge", {"head": str(tmp_path)})
    for config, error in (
        ({"kind": "hydra", "hidden_size": 3}, "holds a 'hydra'"),
        ({"kind": "judge", "hidden_size": 4}, "hidden_size 4"),
        ([], "holds a 'model'"),
    ):
        (tmp_path / "config.json").write_text(json.dumps(config))
        with pytest.raises(CheckpointError, match=error):
            VERIFIERS.create("judge", {"head": str(tmp_path)})
    (tmp_path / "config.json").write_text(json.dumps({"kind": "judge", "hidden_size": 3}))
    judge = VERIFIERS.create("judge", {"head": str(tmp_path)})
    lm = tiny_language_model("llama")
    with pytest.raises(UnsupportedModelError, match="size 3, the model's have 32"):
        generate(lm, [5, 6, 5, 6, 5], drafter="prompt_lookup", verifier=judge, stop_ids=[])
    with pytest.raises(ConfigError, match="is greedy"):
        generate(lm, [5], verifier=judge, sampling=Sampling(temperature=1.0))
    with pytest.raises(ConfigError, match="needs a trained head"):
        VERIFIERS.create("judge")
    with pytest.raises(ConfigError, match="threshold"):
        VERIFIERS.create("judge", {"weights": head_of([1.0]), "threshold": 0.0})
