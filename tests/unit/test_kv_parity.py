"""Scores and kept rows of the policies that kvpress has too, against what kvpress said."""

import importlib.util
import json
from pathlib import Path

import pytest
import torch

from jeton.kv import attach, create_policy
from jeton.kv.registry import POLICIES

ROOT = Path(__file__).resolve().parents[2]
PRESSES = json.loads((ROOT / "tests/golden/kv/kvpress.json").read_text(encoding="utf-8"))["presses"]
KEPT = len(PRESSES["knorm"]["kept"][0][0])
OPTIONS = {
    "snapkv": {"recent": 64},
    "adakv": {"recent": 64},
    "h2o": {"recent": 1, "normalise": True},
    "streaming": {"recent": 1, "sinks": 4},
    "tova": {},
    "knorm": {"recent": 1},
    "keydiff": {"recent": 1},
}


@pytest.fixture(scope="module")
def recipe():
    spec = importlib.util.spec_from_file_location("parity", ROOT / "recipes/kv/parity.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def compressed(recipe, name, monkeypatch):
    """Return scores by layer, and kept positions by layer and head, after reading the text."""
    policy = create_policy(name, budget=KEPT, options={**OPTIONS[name], "stride": 64})
    kind, scores, native = type(policy), [], type(policy).score

    def score(self, rows):
        scores.append(native(self, rows)[0])
        return scores[-1][None]

    monkeypatch.setattr(kind, "score", score)
    model, kept = recipe.tiny_model("sdpa"), []
    with attach(model, policy) as attached, torch.inference_mode():
        cache = model(recipe.text(), use_cache=True).past_key_values
        model(torch.tensor([[1]]), past_key_values=cache)
        for layer in attached.layers.values():
            positions = [
                store.positions[0, h] for store in layer.stores for h in range(store.kv_heads)
            ]
            used = [store.used - 1 for store in layer.stores for _ in range(store.kv_heads)]
            kept.append([p[:n].tolist() for p, n in zip(positions, used, strict=True)])
    return scores, kept


def test_every_press_has_its_policy():
    assert set(PRESSES) == set(OPTIONS) <= set(POLICIES.names())


@pytest.mark.parametrize("name", sorted(set(OPTIONS) - {"streaming"}))
def test_scores_rank_as_those_of_kvpress(name, recipe, monkeypatch):
    found, _ = compressed(recipe, name, monkeypatch)
    for ours, theirs in zip(found, PRESSES[name]["scores"], strict=True):
        wanted = torch.tensor(theirs, dtype=torch.float32)
        if name == "tova":  # one score for all heads of a layer there, one for each group here
            ours = ours.mean(0, keepdim=True).expand_as(wanted)
        free = slice(0, len(theirs[0]) - OPTIONS[name].get("recent", 1))
        ours, wanted = ours[:, free].float(), wanted[:, free]
        factor = float((ours * wanted).sum() / (wanted * wanted).sum())  # sums here, means there
        assert factor > 0
        assert float((ours - factor * wanted).abs().max()) < 1e-4 * float(ours.abs().max())


@pytest.mark.parametrize("name", sorted(set(OPTIONS) - {"tova"}))
def test_the_rows_of_kvpress_are_kept(name, recipe, monkeypatch):
    _, kept = compressed(recipe, name, monkeypatch)
    last = recipe.LENGTH - 1
    for ours, theirs in zip(kept, PRESSES[name]["kept"], strict=True):
        for own, wanted in zip(ours, theirs, strict=True):
            if last in wanted:
                assert own == wanted
            else:  # the last token always stays here, in the place of the worst one there
                assert len(set(wanted) - set(own)) == 1
                assert set(own) - set(wanted) == {last}
