"""Golden rules of drafters with trained parts or draft models, their files, vLLM's proposer."""

import contextlib
import json
import math
from collections import Counter
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from jeton.adapters.vllm import Proposer
from jeton.decoding.acceptance_head import rejection_exceeds
from jeton.decoding.contract import COUPLED, DraftContext, Sampling, Step
from jeton.decoding.create import create_drafter
from jeton.decoding.drafters import rapid
from jeton.decoding.early_exit import shallow_model
from jeton.decoding.generation import generate
from jeton.decoding.heads import Heads, grow_by_levels
from jeton.decoding.noise import gumbel
from jeton.decoding.registry import DRAFTERS
from jeton.decoding.replay import replay
from jeton.decoding.store import Datastore
from jeton.decoding.training.divergences import DIVERGENCES
from jeton.decoding.training.methods.judge import judge_score
from jeton.decoding.training.writing import write
from jeton.decoding.trie import Trie
from jeton.decoding.weights import (
    Weights,
    load_weights,
    own_folder,
    save_weights,
    target_sizes,
    weights_for,
)
from jeton.errors import (
    CheckpointError,
    ConfigError,
    InputError,
    TokenizerMismatchError,
    UnsupportedModelError,
)
from jeton.lm.load import LanguageModel
from jeton.lm.pack import packed
from jeton.lm.runner import Runner
from jeton.lm.tree import TokenTree
from jeton.testing.decoding import check_equals_plain, tiny_language_model
from jeton.testing.models import tiny_model

GOLDEN = Path(__file__).resolve().parent.parent / "golden" / "decoding"


def golden(name):
    return json.loads((GOLDEN / f"{name}.json").read_text(encoding="utf-8"))


@pytest.mark.parametrize("name", ["hydra", "medusa"])
def test_the_tree_of_the_heads(name):
    case = golden(name)

    def guesses(index, paths, count):
        found = []
        for path in paths:
            rows = case["levels"][index]
            pairs = rows.get(",".join(map(str, path)), rows.get(""))[:count]
            found.append(([token for token, _ in pairs], [math.log(p) for _, p in pairs]))
        return found

    tree = grow_by_levels(guesses, case["budget"], 2, beam=4, branching=2)
    assert tree.token_ids == case["tokens"]
    assert tree.parents == case["parents"]


def heads_of(kind, lm, **changes):
    sizes = {**target_sizes(lm.model), "num_heads": 2, "width": 8, **changes}
    heads = Heads(sizes["hidden_size"], 2, 8, 20, sees_tokens=kind == "hydra")
    heads.vocabulary = torch.arange(20)
    return Weights(kind, sizes, heads.state_dict())


def test_hydra_heads_see_what_was_drafted_and_medusa_heads_do_not():
    lm = tiny_language_model("llama")
    for kind, differs in (("hydra", True), ("medusa", False)):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            drafter = DRAFTERS.create(kind, {"trained": heads_of(kind, lm)})
        runner = Runner(lm.model)
        context = DraftContext([1, 2, 3], 61, Sampling(), target=runner)
        drafter.begin(context)
        assert not len(drafter.propose(4)), "no hidden state was seen yet"
        hidden = torch.linspace(-1, 1, 32)[None]
        drafter.observe(Step(TokenTree.chain([3]), (0,), (4,), hidden=hidden))
        one, other = (drafter._state.guesses(1, [[token]], 20)[0] for token in (5, 6))
        assert (one != other) == differs


@pytest.mark.parametrize("kind", ["hydra", "medusa"])
def test_guesses_of_the_heads_by_hand(kind):
    """What a head reads, in its order; the noise is that of the place the guess will stand at."""
    lm = tiny_language_model("llama")
    weights = heads_of(kind, lm)
    drafter = DRAFTERS.create(kind, {"trained": weights})
    sampling = Sampling(temperature=0.7, seed=5)
    context = DraftContext([1, 2, 3], 61, sampling, target=Runner(lm.model), draws=COUPLED)
    drafter.begin(context)
    hidden = torch.linspace(-1, 1, 32)[None]
    drafter.observe(Step(TokenTree.chain([3]), (0,), (4,), hidden=hidden))  # token 4 at place 3
    (found, _) = drafter._state.guesses(1, [[7]], 5)[0]

    unit = lambda rows: torch.nn.functional.rms_norm(rows, (32,))  # noqa: E731
    matrix = lm.model.get_input_embeddings().weight
    seen = [unit(hidden), *([unit(matrix[[4]]), unit(matrix[[7]])] if kind == "hydra" else [])]
    part = weights.tensors
    inner = torch.cat(seen, -1) @ part["up.1.weight"].T + part["up.1.bias"]
    state = torch.nn.functional.silu(inner) @ part["down.1.weight"].T + part["down.1.bias"]
    logits = (state @ lm.model.get_output_embeddings().weight[:20].T)[0].double() / 0.7
    noise = gumbel(5, 5, 61)[:20]  # token 7 stands at place 4, the guess at place 5
    assert found == (logits + noise).topk(5).indices.tolist()


def test_where_specdec_pp_stops():
    case = golden("specdec_pp")
    for threshold, length in case["lengths"].items():
        seen = case["acceptances"]
        stops = [n for n in range(1, 6) if rejection_exceeds(seen[:n], float(threshold))]
        assert (stops or [5])[0] == length
    assert DRAFTERS.create("specdec_pp").threshold == case["default_threshold"]


def test_kangaroo_is_the_first_layers_and_the_adapter():
    assert (
        DRAFTERS.create("kangaroo").min_confidence == golden("kangaroo")["default_min_confidence"]
    )
    target = tiny_model("llama", num_hidden_layers=3)
    model, adapter = shallow_model(target, 1)
    ids = torch.tensor([[1, 2, 3, 4]])
    with torch.inference_mode():
        found = model(input_ids=ids).logits
        seen = target.model(input_ids=ids, output_hidden_states=True, use_cache=False)
        places = torch.arange(4)[None]
        rotary = target.model.rotary_emb(seen.hidden_states[1], places)
        layer = adapter["attention"]
        normed = layer.input_layernorm(seen.hidden_states[1])
        mask = torch.ones(4, 4).tril().log()[None, None]
        attended, _ = layer.self_attn(normed, position_embeddings=rotary, attention_mask=mask)
        expected = target.lm_head(adapter["norm"](seen.hidden_states[1] + attended))
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
    assert target.config.num_hidden_layers == 3
    assert len(target.model.layers) == 3


def test_rapid_reads_the_pieces_that_share_most():
    case = golden("rapid")
    scores = rapid._bm25(Counter(case["asked"]), [Counter(piece) for piece in case["pieces"]])
    assert scores == pytest.approx(case["scores"])
    sizes = {name: case[name] for name in ("budget", "piece", "query")}
    assert rapid.retrieve(case["prompt"], **sizes) == case["kept"]


def test_rasd_prunes_by_the_draft_model_and_fuses():
    case = golden("rasd")
    drafter = DRAFTERS.create("rasd", {"min_probability": case["min_probability"]})
    law = torch.zeros(10, dtype=torch.float64)
    for token, share in case["first"].items():
        law[int(token)] = share
    root = Trie()
    for path in case["retrieved"]:
        node = root
        for token in path:
            node = node.add(token)
    drafter._root.below[9] = root
    root.count, drafter._last = 2, [9]
    retrieved = drafter._retrieved(8, law)
    fused = TokenTree.merge([TokenTree.from_paths(case["own"]), retrieved])
    paths = [[fused.token_ids[i] for i in fused.path_to(node)] for node in range(len(fused))]
    assert paths == case["fused"]


def test_rasd_reads_a_store():
    lm, draft = tiny_language_model("llama"), tiny_language_model("llama", 1)
    plain = generate(lm, [5, 6, 7], max_new_tokens=20, stop_ids=[]).token_ids
    store = Datastore.build([[5, 6, 7, *plain]])
    drafter = DRAFTERS.create("rasd", {"datastore": store, "min_probability": 0.0})
    loop = check_equals_plain(lm, [5, 6, 7], drafter, draft_model=draft, max_new_tokens=20)
    assert loop.stats.tokens_per_step > 2


def test_pearl_verifies_before_and_after():
    case = golden("pearl")
    lm = tiny_language_model("llama")
    drafter = DRAFTERS.create("pearl", {"window": case["window"]})
    lengths = []
    plain = drafter.propose

    class Noting:
        needs, makes_trees, fixes_draws = drafter.needs, False, False
        begin, observe = drafter.begin, drafter.observe

        def propose(self, num_draft_tokens):
            tree = plain(num_draft_tokens)
            lengths.append(len(tree))
            return tree

    # The target drafts for itself: everything holds.
    result = generate(
        lm, [5, 6, 7], max_new_tokens=18, stop_ids=[], drafter=Noting(), draft_model=lm
    )
    assert lengths[:4] == case["lengths_when_all_holds"]
    assert result.stats.acceptance_rate == 1.0


def test_online_learns_on_a_copy():
    case = golden("online")
    lm, draft = tiny_language_model("llama"), tiny_language_model("llama", 1)
    before = {name: value.clone() for name, value in draft.model.state_dict().items()}
    drafter = DRAFTERS.create("online", {"every": case["every"], "lr": 1e-2, "min_confidence": 0.0})
    trained = []
    drafter.begin(DraftContext([5, 6], 61, Sampling(), draft, draws="coupled"))
    step = type(drafter._draft).step
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(type(drafter._draft), "step", lambda *a: (trained.append(1), step(*a)))
        check_equals_plain(
            lm, [5, 6], drafter, draft_model=draft, max_new_tokens=9, num_draft_tokens=1
        )
    assert len(trained) == drafter._steps // case["every"] > 0
    assert all(torch.equal(value, before[name]) for name, value in draft.model.state_dict().items())
    acceptance = []
    for lr in (0.0, 3e-3):
        drafter = DRAFTERS.create("online", {"every": 1, "lr": lr, "min_confidence": 0.0})
        loop = check_equals_plain(lm, [5, 6, 7], drafter, draft_model=draft, max_new_tokens=100)
        acceptance.append(loop.stats.acceptance_rate)
    assert acceptance[1] > acceptance[0]


@pytest.mark.parametrize("name", ["kangaroo", "online"])
def test_packed_weights_are_not_taken_for_the_drafts_own(name):
    lm, draft = tiny_language_model("llama"), tiny_language_model("llama", 1)
    texts, figures = [], []
    with packed(lm.model), packed(draft.model):
        is_packed_first = DRAFTS[name](lm)
    for is_packed in (False, True):
        with contextlib.ExitStack() as stack:
            if is_packed:
                stack.enter_context(packed(lm.model))
                stack.enter_context(packed(draft.model))
            result = generate(
                lm,
                [5, 6, 7],
                max_new_tokens=40,
                stop_ids=[],
                drafter=is_packed_first if is_packed else DRAFTS[name](lm),
                draft_model=draft,
            )
        texts.append(result.token_ids)
        figures.append(result.stats.num_accepted)
    assert texts[0] == texts[1]
    assert figures[0] == figures[1]


def kangaroo_of(lm):
    _, adapter = shallow_model(lm.model, 1)
    config = {**target_sizes(lm.model), "num_layers": 1}
    weights = Weights("kangaroo", config, adapter.state_dict())
    return DRAFTERS.create("kangaroo", {"trained": weights, "min_confidence": 0.05})


DRAFTS = {
    "kangaroo": kangaroo_of,
    "online": lambda lm: DRAFTERS.create("online", {"every": 2, "min_confidence": 0.05}),
}


def test_heads_can_be_merged(tmp_path):
    lm = tiny_language_model("llama")
    save_weights(tmp_path / "hydra", heads_of("hydra", lm))
    options = {"drafters": "lookahead+hydra", "weights": str(tmp_path)}
    loop = check_equals_plain(lm, [5, 6, 7, 5, 6], DRAFTERS.create("merge", options))
    assert loop.stats.num_proposed > 0
    with pytest.raises(ConfigError, match="cannot join"):
        DRAFTERS.create("merge", {"drafters": "lookahead+draft_model"})


@pytest.mark.parametrize("names", ["prompt_lookup+token_recycling", "lookahead+aded"])
def test_merging_loses_little_to_the_better_part(names):
    """Held back nodes are those of the drafter whose guesses did not hold."""
    lm = tiny_language_model("llama")
    rng = np.random.default_rng(4)
    motif = rng.integers(1, 61, 24).tolist()
    record = [token for _ in range(8) for token in (*motif, *rng.integers(1, 61, 6).tolist())]
    steps = {}
    for name in (*names.split("+"), names):
        found = replay(lm, record, num_prompt_tokens=60, drafter=create_drafter(name))
        steps[name] = found.tokens_per_step
    best = max(steps[name] for name in names.split("+"))
    assert steps[names] >= 0.95 * best


def test_divergences():
    case = golden("divergences")
    target, draft = (torch.tensor(case[k], dtype=torch.float64).log() for k in ("target", "draft"))
    for name, distance in DIVERGENCES.items():
        assert float(distance(target, draft)) == pytest.approx(case[name], abs=1e-12)
        assert float(distance(target, target)) == pytest.approx(0.0, abs=1e-12)


def test_a_judge_is_linear():
    hidden, weight = torch.tensor([[1.0, 2.0], [0.0, -1.0]]), torch.tensor([3.0, -1.0])
    assert judge_score(hidden, weight, torch.tensor([0.5])).tolist() == [1.5, 1.5]


def test_writing_is_the_models_own_text():
    lm = tiny_language_model("llama")
    prompts = torch.tensor([[5, 6, 7], [9, 8, 7]])
    rng = np.random.default_rng(0)
    rows = write(lm.model, prompts, 6, vocab_size=61, temperature=0.0, rng=rng)
    for row in rows.tolist():
        plain = generate(lm, row[:3], max_new_tokens=6, stop_ids=[]).token_ids
        assert row[3:] == plain


def test_weights_survive_a_folder_and_mistakes_are_named(tmp_path):
    lm = tiny_language_model("llama")
    folder = tmp_path / "run" / "hydra"
    save_weights(folder, heads_of("hydra", lm))
    again = load_weights(folder, "hydra")
    assert again.number("width") == 8
    assert weights_for(lm.model, "hydra", str(folder.parent)).number("width") == 8
    assert [path.name for path in folder.parent.iterdir()] == ["hydra"]
    with pytest.raises(ConfigError, match="of kind 'hydra', not 'medusa'"):
        load_weights(folder, "medusa")
    with pytest.raises(InputError, match="holds no hydra weights"):
        load_weights(tmp_path, "hydra")
    with pytest.raises(ConfigError, match="needs weights"):
        generate(lm, [1, 2], drafter="hydra")
    with pytest.raises(CheckpointError, match="no whole number"):
        again.number("target")
    (folder / "config.json").write_text('{"schema_version": 99}')
    with pytest.raises(CheckpointError, match="schema version"):
        load_weights(folder, "hydra")


def test_a_model_brings_its_weights_along(tmp_path):
    lm = tiny_language_model("llama")
    lm.model.save_pretrained(tmp_path / "model")
    save_weights(tmp_path / "model" / "medusa", heads_of("medusa", lm))
    again = LanguageModel(
        type(lm.model).from_pretrained(tmp_path / "model"), None, lm.vocabulary, "again"
    )
    assert own_folder(again.model, "medusa") == tmp_path / "model" / "medusa"
    assert own_folder(again.model, "hydra") is None
    drafter = DRAFTERS.create("medusa")
    assert check_equals_plain(again, [1, 2, 3], drafter).stats.num_proposed > 0


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"hidden_size": 31}, UnsupportedModelError),
        ({"num_embeddings": 65}, TokenizerMismatchError),
        ({"num_heads": 3}, CheckpointError),
        ({"width": "8"}, CheckpointError),
        ({"num_heads": 0}, CheckpointError),
    ],
)
def test_weights_of_another_target_are_refused(changes, error):
    lm = tiny_language_model("llama")
    found = heads_of("hydra", lm)
    broken = Weights("hydra", {**found.config, **changes}, found.tensors)
    with pytest.raises(error):
        generate(lm, [1, 2], drafter=DRAFTERS.create("hydra", {"trained": broken}))


def test_heads_need_their_token_ids():
    lm = tiny_language_model("llama")
    found = heads_of("hydra", lm)
    tensors = {k: v for k, v in found.tensors.items() if k != "vocabulary"}
    with pytest.raises(CheckpointError, match="list of token ids"):
        generate(
            lm,
            [1, 2],
            drafter=DRAFTERS.create("hydra", {"trained": Weights("hydra", found.config, tensors)}),
        )


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("hydra", {"beam": -1}),
        ("medusa", {"branching": 0}),
        ("kangaroo", {"min_confidence": -1.0}),
        ("specdec_pp", {"threshold": 2.0}),
        ("pearl", {"window": 0}),
        ("rapid", {"budget": 1}),
        ("rapid", {"min_confidence": 3.0}),
        ("rasd", {"depth": 0}),
        ("rasd", {"min_probability": -0.1}),
        ("online", {"lr": -1.0}),
        ("online", {"min_confidence": 1.5}),
    ],
)
def test_bad_options_are_refused(name, options):
    with pytest.raises(ConfigError):
        DRAFTERS.create(name, options)


def vllm_config(drafter=None):
    return SimpleNamespace(
        additional_config={"jeton_drafter": drafter} if drafter else None,
        speculative_config=SimpleNamespace(num_speculative_tokens=3),
        model_config=SimpleNamespace(get_vocab_size=lambda: 50),
    )


@pytest.mark.parametrize("name", ["prompt_lookup", "lookahead"])
def test_vllm_rows_follow_their_own_requests(name):
    proposer = Proposer(vllm_config(name))
    proposer.load_model(None)
    tokens = np.zeros((2, 32), dtype=np.int32)
    tokens[0, :8] = [1, 2, 3, 4, 5, 1, 2, 3]
    tokens[1, :6] = [7, 8, 7, 8, 7, 8]
    first = proposer.propose([[3], []], [8, 6], tokens)
    assert first[0] == [4, 5, 1]
    assert first[1] == [], "a row that sampled nothing gets no draft"
    tokens[0, 8:10] = [4, 9]
    second = proposer.propose([[4, 9], [8]], [10, 6], tokens)
    assert second[0] == []
    assert second[1][:2] == [7, 8]
    tokens[0, :4] = [6, 5, 6, 5]  # another request took the row
    third = proposer.propose([[5], [8]], [4, 6], tokens)
    assert third[0][:2] == [6, 5]
    assert all(len(draft) <= 3 for draft in third)


def test_vllm_gives_no_logits():
    with pytest.raises(ConfigError, match="needs logits"):
        Proposer(vllm_config("token_recycling"))
