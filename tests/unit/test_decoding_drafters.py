"""Golden drafts, the store, sizing, calibration and tuning."""

import json
import math
from pathlib import Path

import pytest
import torch

from jeton.decoding.best_first import grow
from jeton.decoding.calibration import Calibration
from jeton.decoding.contract import COUPLED, Draft, DraftContext, Law, Sampling, Step
from jeton.decoding.create import create_drafter, create_verifier
from jeton.decoding.engine import up_to_depth
from jeton.decoding.generation import generate
from jeton.decoding.registry import DRAFTERS
from jeton.decoding.rounds import judge_in_rounds
from jeton.decoding.store import Datastore
from jeton.decoding.transport import optimal_acceptance
from jeton.decoding.tune import Tuning, applicable, tune
from jeton.decoding.verifiers.spectr import division_factor
from jeton.errors import ConfigError, InputError, TokenizerMismatchError, UnknownMethodError
from jeton.lm.cost import CostTable
from jeton.lm.tree import TokenTree
from jeton.testing.decoding import (
    Adversary,
    check_equals_plain,
    reference_ids,
    tiny_language_model,
)

GOLDEN = Path(__file__).resolve().parent.parent / "golden" / "decoding"


def golden(name):
    return json.loads((GOLDEN / f"{name}.json").read_text(encoding="utf-8"))


def cases():
    for name in ("token_recycling", "lookahead", "rest", "aded"):
        document = golden(name)
        for case in document["cases"]:
            yield pytest.param(name, case, document.get("store"), id=f"{name}: {case['name']}")


def step_of(given):
    logits = given.get("logits")
    if "probabilities" in given:
        logits = torch.tensor(given["probabilities"]).log()
    tree = TokenTree(given["tokens"], given["parents"])
    logits = None if logits is None else torch.as_tensor(logits, dtype=torch.float32)
    return Step(tree, tuple(given["accepted"]), tuple(given["token_ids"]), logits)


@pytest.mark.parametrize(("name", "case", "store"), list(cases()))
def test_golden_drafts(name, case, store):
    options = dict(case["options"])
    if store is not None:
        options["datastore"] = Datastore.build(store)
    drafter = DRAFTERS.create(name, options)
    for _ in range(2):  # begin forgets the text
        drafter.begin(DraftContext(case["prompt"], 10, Sampling()))
        for given in case["steps"]:
            drafter.observe(step_of(given))
        if name == "token_recycling" and _:
            continue  # its matrix and its counts outlive a text
        draft = drafter.propose(case["num_draft_tokens"])
        assert draft.token_ids == case["draft"]["tokens"]
        assert draft.parents == case["draft"]["parents"]


class Scripted:
    """Refuses everything and records with which probability it was asked."""

    def __init__(self):
        self.asked = []

    def accepts(self, probability):
        self.asked.append(probability)
        return False


@pytest.mark.parametrize("case", golden("verifiers")["rounds"])
def test_golden_rounds(case):
    target = torch.tensor(case["target"], dtype=torch.float64)
    law = None
    if case["draft"] is not None:
        law = Law(torch.tensor(case["draft"], dtype=torch.float64), (0,) * len(case["tokens"]))
    chance = Scripted()
    kept, rest = judge_in_rounds(target, law, case["tokens"], chance, distinct=case["distinct"])
    assert kept is None
    assert chance.asked == pytest.approx(case["accepted_with"])
    assert rest.tolist() == pytest.approx(case["rest"])


def test_golden_division_factor():
    case = golden("verifiers")["factor"]
    p, q = (torch.tensor(case[key], dtype=torch.float64) for key in ("target", "draft"))
    assert division_factor(p, q, case["num_drafts"]) == pytest.approx(case["rho"], abs=1e-9)


def test_golden_optimum():
    case = golden("verifiers")["optimum"]
    p, q = (torch.tensor(case[key], dtype=torch.float64) for key in ("target", "draft"))
    for key in ("independent", "distinct"):
        for num_drafts, value in case[key].items():
            found = optimal_acceptance(p, q, int(num_drafts), with_replacement=key == "independent")
            assert found == pytest.approx(value, abs=1e-12)


def context_of(draft_lm, prompt, **fields):
    return DraftContext(prompt, 61, Sampling(), draft_model=draft_lm, draws=COUPLED, **fields)


def test_a_draft_model_writes_its_own_greedy_text():
    draft_lm, prompt = tiny_language_model("gpt2", 1), [5, 9, 5, 7]
    drafter = DRAFTERS.create("draft_model", {"min_confidence": 0.0})
    drafter.begin(context_of(draft_lm, prompt))
    right = reference_ids(draft_lm, prompt, max_new_tokens=12)
    assert drafter.propose(5).token_ids == right[:5]
    # Two of five hold, then the target says something else.
    said = (*right[:2], (right[2] + 1) % 61)
    drafter.observe(Step(TokenTree.chain([7, *right[:5]]), (0, 1, 2), said))
    expected = reference_ids(draft_lm, [*prompt, *said], max_new_tokens=5)
    assert drafter.propose(5).token_ids == expected


def test_a_draft_tree_has_the_best_children_at_each_level():
    draft_lm, prompt = tiny_language_model("gpt2", 1), [5, 9, 5, 7]
    drafter = DRAFTERS.create("draft_tree", {"branching": "2,1"})
    drafter.begin(context_of(draft_lm, prompt))
    tree = drafter.propose(4)
    assert tree.parents == [-1, -1, 0, 1]
    with torch.inference_mode():
        for node in range(-1, 2):
            path = [tree.token_ids[i] for i in tree.path_to(node)]
            logits = draft_lm.model(input_ids=torch.tensor([[*prompt, *path]])).logits[0, -1, :61]
            wanted = logits.topk(2 if node < 0 else 1).indices.tolist()
            assert [tree.token_ids[child] for child in tree.children(node)] == wanted
    assert drafter.propose(3).parents == [-1, -1]  # the second level does not fit


def test_dyspec_draws_what_is_worth_the_threshold():
    draft_lm, prompt = tiny_language_model("gpt2", 1), [5, 9, 5, 7]
    drafter = DRAFTERS.create("dyspec", {"max_depth": 3})
    drafter.begin(context_of(draft_lm, prompt))
    for budget in (1, 4, 12):
        tree = drafter.propose(budget)
        assert 1 <= len(tree) <= budget
        for node, parent in enumerate(tree.parents):
            path = tree.path_logq
            earlier = [c for c in tree.children(parent) if c < node]
            taken = sum(math.exp(tree.logq[c]) for c in earlier)
            reached = math.exp(path[parent]) if parent >= 0 else 1.0
            assert reached * (1 - taken) >= 1 / budget - 1e-9


def test_best_first_takes_the_most_likely_nodes():
    def expand(state):
        return [(1, 0.6, state + 1), (2, 0.3, state + 1)] if state < 3 else []

    tree = grow(0, expand, 100, 9)
    assert len(tree) == 2 + 4 + 8
    small = grow(0, expand, 5, 9)
    worst = min(small.path_logq)
    left = sorted(tree.path_logq, reverse=True)[5:]
    assert all(value <= worst + 1e-12 for value in left)
    assert max(grow(0, expand, 100, 2).depths) == 1


def test_merge_joins_equal_paths():
    prompt = [1, 2, 3, 9, 1, 2, 4, 8, 1, 2]
    drafter = create_drafter("prompt_lookup+lookahead")
    drafter.begin(DraftContext(prompt, 10, Sampling()))
    tree = drafter.propose(6)
    paths = {tuple(tree.token_ids[i] for i in tree.path_to(n)) for n in range(len(tree))}
    assert {(4,), (4, 8), (3,)} <= paths
    assert len(paths) == len(tree) <= 6
    assert {0, 1} == set(tree.source)


def test_merge_refuses_what_cannot_be_merged():
    with pytest.raises(UnknownMethodError):
        create_drafter("prompt_lookup+lookahed")
    with pytest.raises(ConfigError, match="draft_model"):
        create_drafter("prompt_lookup+draft_model")
    with pytest.raises(ConfigError, match="other drafters"):
        create_drafter("merge+aded")


def test_calibration_learns_what_holds():
    calibration = Calibration()
    tree = TokenTree([9, 1, 2], [-1, 0, 0], [0.0, math.log(0.5), math.log(0.1)], [-1, 0, 1])
    draft = TokenTree([1, 2], [-1, -1], [math.log(0.5), math.log(0.1)], [0, 1])
    first = calibration.survival(draft)
    assert first == pytest.approx([0.5, 0.1])
    for _ in range(60):
        calibration.observe(Step(tree, (0, 2), (2, 5)))
    sure, never = calibration.survival(draft)[1], calibration.survival(draft)[0]
    assert never < 0.1
    assert sure > 0.8


TOY = CostTable([1, 2, 4, 8], [1.0, 1.1, 1.4, 2.4], 0, "toy", "float32")
STEEP = CostTable([1, 2, 4, 8], [1.0, 2.0, 4.0, 8.0], 0, "toy", "float32")


@pytest.mark.parametrize("cost", [TOY, STEEP], ids=["flat", "steep"])
def test_cut_drafts_change_nothing(cost):
    lm, prompt = tiny_language_model("llama"), [5, 6, 7]
    right = reference_ids(lm, prompt, max_new_tokens=30)
    adversary = Adversary([*prompt, *right], truth=0.7)
    loop = check_equals_plain(lm, prompt, adversary, max_new_tokens=30, expected=right, cost=cost)
    whole = check_equals_plain(lm, prompt, adversary, max_new_tokens=30, expected=right)
    assert loop.stats.num_proposed < whole.stats.num_proposed
    if cost is STEEP:
        assert loop.stats.num_proposed == 0


def test_a_cut_by_depth_keeps_the_laws_of_what_stays():
    law = torch.full((4,), 0.25, dtype=torch.float64)
    laws = {-1: Law(law, (0, 1, 0)), 0: Law(law, (2,)), 2: Law(law, (4,)), 1: Law(law, (3,))}
    draft = Draft([1, 2, 3, 1, 2], [-1, -1, 0, 1, 2], None, None, laws)
    assert up_to_depth(draft, 3) is draft
    cut = up_to_depth(draft, 1)
    assert (cut.token_ids, cut.parents) == ([1, 2], [-1, -1])
    assert {node: law.drawn for node, law in cut.laws.items()} == {-1: (0, 1, 0)}
    assert len(up_to_depth(draft, 0)) == 0


def test_store_survives_a_file(tmp_path):
    store = Datastore.build([[1, 2, 3], [2, 3, 1]])
    store.save(tmp_path / "store.npz")
    again = Datastore.load(tmp_path / "store.npz")
    assert sorted(again.find([2, 3]).tolist()) == [1, 4]
    assert [p.name for p in tmp_path.iterdir()] == ["store.npz"]
    lm = tiny_language_model("llama")
    drafter = DRAFTERS.create("rest", {"store": str(tmp_path / "store.npz")})
    check_equals_plain(lm, [5, 2, 3], drafter, max_new_tokens=8)
    (tmp_path / "broken.npz").write_bytes(b"PK no")
    for name in ("broken.npz", "none.npz"):
        with pytest.raises(InputError, match="no datastore"):
            generate(lm, [1], drafter=DRAFTERS.create("rest", {"store": str(tmp_path / name)}))
    with pytest.raises(ConfigError, match="needs a datastore"):
        generate(lm, [1], drafter="rest")


def test_a_draft_model_must_share_the_vocabulary():
    lm, other = tiny_language_model("llama"), tiny_language_model("llama", vocab_size=60)
    with pytest.raises(ConfigError, match="needs a draft model"):
        generate(lm, [1], drafter="draft_model")
    with pytest.raises(TokenizerMismatchError, match="do not share a vocabulary"):
        generate(lm, [1], drafter="draft_model", draft_model=other)


@pytest.mark.parametrize("name", ["draft_model", "draft_tree", "dyspec"])
def test_a_short_draft_model_stops_drafting(name):
    lm = tiny_language_model("llama")
    short = tiny_language_model("gpt2", 1, max_position_embeddings=12)
    options = {"min_confidence": 0.0} if name == "draft_model" else None
    drafter = DRAFTERS.create(name, options)
    loop = check_equals_plain(lm, [1, 2, 3, 4, 5], drafter, max_new_tokens=20, draft_model=short)
    assert loop.stats.num_proposed > 0


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("token_recycling", {"num_candidates": 0}),
        ("aded", {"exploration": -1.0}),
        ("lookahead", {"max_prefix": 12}),
        ("rest", {"min_suffix": 0}),
        ("rest", {"max_matches": 0}),
        ("draft_model", {"min_confidence": 2.0}),
        ("draft_tree", {"branching": "2,x"}),
        ("draft_tree", {"branching": "2,0"}),
        ("dyspec", {"max_depth": 0}),
    ],
)
def test_bad_options_are_refused(name, options):
    with pytest.raises(ConfigError):
        DRAFTERS.create(name, options)


def test_verifiers_by_name_take_the_seed():
    assert create_verifier("rsd", Sampling(temperature=1, seed=5)).seed == 5
    lm, warm = tiny_language_model("llama"), Sampling(temperature=1.0, seed=5)
    texts = [
        generate(lm, [1, 2], max_new_tokens=8, verifier="multi_round", sampling=warm).token_ids
        for _ in range(2)
    ]
    assert texts[0] == texts[1]


def ticks():
    """A clock that counts its calls: one step costs the same whatever it does."""
    count = 0

    def clock():
        nonlocal count
        count += 1
        return float(count)

    return clock


def test_tuning_ranks_and_survives_a_file(tmp_path):
    lm = tiny_language_model("llama")
    texts = ["#$%&'()" * 9, "ABCABC" * 10]
    found = tune(
        lm,
        texts,
        drafters=["prompt_lookup", "lookahead"],
        lengths=[4],
        rounds=1,
        cost=TOY,
        clock=ticks(),
    )
    assert {row.drafter for row in found.rows} == {"none", "prompt_lookup", "lookahead"}
    by_name = {row.drafter: row for row in found.rows}
    assert by_name["none"].ratio == 1.0
    assert by_name["none"].tokens_per_step == 1.0
    assert by_name["lookahead"].tokens_per_step > 1.5
    assert found.best.ratio == max(row.ratio for row in found.rows)
    found.save(tmp_path / "tuning.json")
    assert Tuning.load(tmp_path / "tuning.json") == found
    (tmp_path / "tuning.json").write_text("{}")
    with pytest.raises(InputError, match="no tuning file"):
        Tuning.load(tmp_path / "tuning.json")
    with pytest.raises(ConfigError, match="no text"):
        tune(lm, ["A"], cost=TOY)


def test_what_applies():
    chains = applicable(tiny_language_model("mamba"), has_draft_model=True, registry=DRAFTERS)
    assert {"draft_model", "prompt_lookup"} <= {*chains}
    assert not {"lookahead", "auto", "rest", "kangaroo"} & {*chains}
    trees = applicable(tiny_language_model("llama"), has_draft_model=False, registry=DRAFTERS)
    assert {"auto", "lookahead+token_recycling"} <= {*trees}
    assert not {"draft_model", "rest", "hydra"} & {*trees}
