"""The formulas of the initializers against worked examples, and their bad input."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers

from jeton.core.vocabulary import Vocabulary
from jeton.errors import ConfigError
from jeton.testing.models import tiny_model
from jeton.transfer.contract import InitInput
from jeton.transfer.hypernetwork import Hypernetwork, HypernetworkConfig, fingerprint
from jeton.transfer.initializers.combiner import blend, parse_parts
from jeton.transfer.initializers.context_distillation import ContextDistillation
from jeton.transfer.initializers.focus import Focus, sparsemax
from jeton.transfer.initializers.mean import Mean
from jeton.transfer.initializers.multivariate import normal_of
from jeton.transfer.initializers.omp import Omp, pursue
from jeton.transfer.initializers.random import Random
from jeton.transfer.initializers.ridge import _STRENGTHS, _solve, features, fit, narrow
from jeton.transfer.initializers.tokenadapt import TokenAdapt, local_weights
from jeton.transfer.initializers.wechsel import Wechsel
from jeton.transfer.matching import match_tokens
from jeton.transfer.registry import INITIALIZERS
from jeton.transfer.rows import Combination
from jeton.transfer.static_vectors import joint_vectors, nearest, place, tokenize
from jeton.transfer.transplant import with_rows
from jeton.transfer.word_vectors import WordVectors, align, procrustes, read_vectors, token_vectors

GOLDEN = Path(__file__).parents[1] / "golden" / "transfer"
LETTERS = [bytes([i]).decode() for i in range(97, 123)]


def golden(name: str) -> Any:
    return json.loads((GOLDEN / f"{name}.json").read_text(encoding="utf-8"))


def vocabulary(merges: list[tuple[str, str]]) -> Vocabulary:
    """Byte-level BPE over the letters, the space (Ġ) and the merges."""
    tokens = [*LETTERS, "Ġ", *("".join(pair) for pair in merges)]
    tokenizer = Tokenizer(models.BPE(vocab={t: i for i, t in enumerate(tokens)}, merges=merges))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    return Vocabulary.from_tokenizer_json(tokenizer.to_str())


def test_random_rows_keep_mean_and_spread():
    case = golden("random")
    source, destination = vocabulary([]), vocabulary([("a", b) for b in LETTERS])
    rows = torch.tensor(case["rows"]).repeat(27, 1)[: source.vocab_size + 1][: source.vocab_size]
    rows = torch.cat([rows, torch.tensor(case["rows"])[: 27 - len(rows)]])
    many = [
        Random().initialize(InitInput(source, destination, rows, seed=seed)).input_embeddings[27:]
        for seed in range(40)
    ]
    drawn = torch.cat(many)
    torch.testing.assert_close(drawn[:, 0], torch.full((len(drawn),), case["constant"]))
    assert abs(drawn[:, 1].mean().item() - case["mean"]) < 0.1
    assert abs(drawn[:, 1].std().item() - case["std"]) < 0.1


def test_multivariate_factor_is_of_the_covariance():
    case = golden("multivariate")
    mean, factor = normal_of(torch.tensor(case["rows"], dtype=torch.float32))
    torch.testing.assert_close(mean, torch.tensor(case["mean"], dtype=torch.float32))
    expected = torch.tensor(case["covariance"])
    torch.testing.assert_close(factor @ factor.T, expected, atol=1e-4, rtol=0)


def test_wechsel_token_vectors_and_weights():
    case = golden("wechsel")
    vectors = torch.tensor(case["vectors"], dtype=torch.float32)
    words = WordVectors(case["words"], case["frequencies"], vectors)
    made = token_vectors(vocabulary([]), words)
    for token_id, letter in enumerate("abc"):
        expected = torch.tensor(case[letter], dtype=torch.float32)
        torch.testing.assert_close(made[token_id], expected)
    assert not made[3].any()  # no word has a d
    source, destination = vocabulary([]), vocabulary([("x", "y")])
    old = torch.zeros(source.vocab_size, 2)
    old[1], old[2] = torch.tensor([1.0, 0.0]), torch.tensor([0.0, 1.0])
    new = torch.zeros(destination.vocab_size, 2)
    new[27] = torch.tensor(case["cosines"])
    given = InitInput(source, destination, torch.zeros(source.vocab_size, 2))
    found = Wechsel(neighbors=2)._mix(given, old, new, torch.tensor([27]))[27]
    assert found.source_ids == [1, 2]
    assert found.weights == pytest.approx(case["weights"], abs=1e-6)


def test_tokenadapt_local_and_hybrid_weights():
    case = golden("tokenadapt")
    weights = local_weights(case["cosines"], case["lengths"], case["temperature"])
    assert weights == pytest.approx(case["local"])
    hybrid = TokenAdapt()._hybrid(Combination([0, 1], weights), Combination([2], [1.0]))
    assert hybrid.source_ids == [0, 1, 2]
    assert hybrid.weights == pytest.approx(case["hybrid"])


def test_focus_sparsemax():
    case = golden("focus")
    found = sparsemax(torch.tensor(case["scores"], dtype=torch.float64))
    expected = torch.tensor(case["sparsemax"], dtype=torch.float64)
    torch.testing.assert_close(found, expected)


def test_omp_pursuit():
    case = golden("omp")
    atoms = torch.tensor([case["atoms"]], dtype=torch.float64)
    target = torch.tensor([case["target"]], dtype=torch.float64)
    chosen, weights = pursue(target, atoms, 2, 0.0)
    assert chosen.tolist() == [case["chosen"]]
    assert weights[0].tolist() == pytest.approx(case["coefficients"], abs=1e-4)
    exact, three = pursue(target, atoms, 1, 1.0)  # the ridge halves the coefficient
    assert exact.tolist() == [[2]]
    assert three.item() == pytest.approx(5 / 2**0.5 / 2)


def test_omp_looks_at_what_is_not_explained_yet():
    near = torch.tensor([0.99, 0.1411])  # of the first atom; with both, nothing new is explained
    atoms = torch.stack([torch.tensor([1.0, 0.0]), near, torch.tensor([0.0, 1.0])])[None]
    chosen, _ = pursue(torch.tensor([[3.0, 1.0]]), atoms, 2, 0.0)
    assert chosen.tolist() == [[1, 2]]


def test_ridge_solution():
    case = golden("ridge")
    given, wanted = torch.tensor(case["features"]), torch.tensor(case["wanted"])
    found = _solve(given.T @ given, given.T @ wanted, case["strength"])
    torch.testing.assert_close(found, torch.tensor(case["weights"]))


def test_ridge_takes_the_strength_that_predicts_held_out_tokens_best():
    generator = torch.Generator().manual_seed(0)
    rows = torch.randn((200, 6), generator=generator)
    known = {i: (i % 40, (i * 7) % 40) for i in range(40, 200)}
    parts = [known[i] for i in sorted(known)]
    for i, (a, b) in known.items():
        rows[i] += 0.6 * rows[a] - 0.4 * rows[b]
    given = features(rows, parts)
    wanted = rows[sorted(known)] - (rows[[a for a, _ in parts]] + rows[[b for _, b in parts]]) / 2
    is_held_out = torch.arange(len(parts)) % 5 == 0
    train, test = given[~is_held_out], given[is_held_out]
    errors = {}
    for strength in _STRENGTHS:
        weights = _solve(train.T @ train, train.T @ wanted[~is_held_out], strength)
        errors[strength] = float((test @ weights - wanted[is_held_out]).square().sum())
    best = min(errors, key=errors.__getitem__)
    assert best not in (_STRENGTHS[0], _STRENGTHS[-1])
    torch.testing.assert_close(fit(rows, rows, known, 0.0), fit(rows, rows, known, best))


def test_ridge_looks_along_the_leading_directions():
    generator = torch.Generator().manual_seed(0)
    rows = torch.randn((50, 2), generator=generator) @ torch.randn((2, 9), generator=generator)
    seen = narrow(rows, 2)
    assert seen.shape == (50, 2)
    torch.testing.assert_close(seen @ seen.T, rows @ rows.T, atol=1e-4, rtol=1e-4)
    assert torch.equal(seen, narrow(rows, 2))
    assert narrow(rows, 9) is rows


def test_ridge_recovers_a_linear_rule():
    """Where every token of the source is the sum of its two parts, so is every new one."""
    merges = [(a, b) for a in "abcdefgh" for b in "ijklmnop"]
    source, destination = vocabulary(merges), vocabulary([*merges, ("a", "z"), ("h", "q")])
    rows = torch.randn((source.vocab_size, 4), generator=torch.Generator().manual_seed(0))
    rows[:27] -= rows[:27].mean(0)
    for index, (a, b) in enumerate(merges):
        rows[27 + index] = rows[ord(a) - 97] + rows[ord(b) - 97]
    method = INITIALIZERS.create("ridge", {"strength": 1e-7})
    result = method.initialize(InitInput(source, destination, rows)).input_embeddings
    torch.testing.assert_close(result[-2], rows[0] + rows[25], atol=0.3, rtol=0)
    mean = INITIALIZERS.create("mean").initialize(InitInput(source, destination, rows))
    wanted = torch.stack([rows[0] + rows[25], rows[7] + rows[16]])
    error = (result[-2:] - wanted).norm()
    assert error < 0.5 * (mean.input_embeddings[-2:] - wanted).norm()


def test_combiner_mean():
    case = golden("combiner")
    weights = [weight for _, weight in parse_parts(case["parts"])]
    matrices = [torch.tensor(m, dtype=torch.float32) for m in case["matrices"]]
    is_shared = torch.tensor([False, True])
    found = None
    for matrix, weight in zip(matrices, weights, strict=True):
        found = blend(found, matrix, weight, is_shared)
    assert found is not None
    torch.testing.assert_close(found, torch.tensor(case["mean"], dtype=torch.float32))
    assert torch.equal(found[1], matrices[0][1])


def test_cw2v_and_convex_methods_stay_in_the_hull():
    source = vocabulary([])
    destination = vocabulary([("a", "b"), ("c", "d"), ("Ġ", "e")])
    rows = torch.zeros((source.vocab_size, source.vocab_size))
    rows.fill_diagonal_(1.0)  # a row is its own barycentric coordinates
    given = InitInput(source, destination, rows, texts=("ab cd ef ab cd e gh ab " * 20,))
    for name in ("cw2v", "wechsel", "tokenadapt", "focus", "mean"):
        result = INITIALIZERS.create(name).initialize(given).input_embeddings[27:]
        assert bool((result >= 0).all()), name
        torch.testing.assert_close(result.sum(1), torch.ones(3), msg=name)


def test_cw2v_learns_from_the_text():
    source, destination = vocabulary([]), vocabulary([("a", "b")])
    rows = torch.randn((source.vocab_size, 8), generator=torch.Generator().manual_seed(0))
    given = InitInput(source, destination, rows, texts=("ab cd ab ce ab cd " * 20,))
    still = INITIALIZERS.create("cw2v", {"num_steps": 0}).initialize(given).input_embeddings
    moved = INITIALIZERS.create("cw2v", {"num_steps": 50}).initialize(given).input_embeddings
    assert not torch.allclose(still[27], moved[27], atol=1e-3)


def test_cw2v_moves_towards_the_part_that_suits_the_context():
    source, destination = vocabulary([]), vocabulary([("a", "b")])
    rows = torch.zeros((source.vocab_size, 4))
    rows[0, 0], rows[1, 0], rows[4, 0] = 1.0, -1.0, 1.0  # "e" is like "a" and unlike "b"
    text = "".join(f"{x}{y}abe{y}{x}{z}" for x in "cdfg" for y in "hijk" for z in "lmno") * 5
    given = InitInput(source, destination, rows, texts=(text,))
    options = {"neighbors": 1, "negatives": 1}
    still, moved = (
        INITIALIZERS.create("cw2v", {**options, "num_steps": steps}).initialize(given)
        for steps in (0, 100)
    )
    assert moved.input_embeddings[27, 0] > still.input_embeddings[27, 0] + 0.05


def test_words_used_alike_get_vectors_alike():
    source, destination = vocabulary([]), vocabulary([("x", "y"), ("u", "v")])
    text = "a xy b a uv b c d a xy b a uv b d c " * 30
    _, new = joint_vectors(source, destination, [text], dim=8, seed=0)
    assert (new[27] @ new[28]).item() > 0.8 > (new[27] @ new[2]).item()
    again = joint_vectors(source, destination, [text], dim=8, seed=0)[1]
    assert torch.equal(new, again)


def test_documents_do_not_meet_and_offsets_agree():
    old = tokenize(vocabulary([]), ["ab", "ab"])
    new = tokenize(vocabulary([("a", "b")]), ["ab", "ab"])
    assert old.starts.tolist() == [0, 1, 4, 5]
    assert (new.starts.tolist(), new.stops.tolist()) == ([0, 4], [2, 6])
    dummy = place([torch.tensor([0, 1]).numpy()], torch.tensor([1, 2]).numpy(), [2])
    assert dummy.starts.tolist() == [-1, 0]  # the dummy space stands before the text


def test_procrustes_finds_the_rotation():
    generator = torch.Generator().manual_seed(0)
    fixed = torch.nn.functional.normalize(torch.randn((20, 5), generator=generator))
    turn = torch.linalg.qr(torch.randn((5, 5), generator=generator)).Q
    rotation = procrustes(fixed @ turn.T, fixed)
    torch.testing.assert_close(rotation.float(), turn, atol=1e-5, rtol=0)
    words = [f"w{i}" for i in range(20)]
    turned = WordVectors([f"v{i}" for i in range(20)], [1.0] * 20, fixed @ turn.T)
    pairs = [(f"w{i}", f"v{i}") for i in range(10)]
    aligned = align(WordVectors(words, [1.0] * 20, fixed), turned, pairs)
    torch.testing.assert_close(aligned.vectors, fixed, atol=1e-5, rtol=0)
    with pytest.raises(ConfigError, match="no word pair"):
        align(WordVectors(words, [1.0] * 20, fixed), turned, [])


def test_nearest_is_sorted():
    keys = torch.nn.functional.normalize(torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]]))
    cosines, places = nearest(keys[:1], keys, 2)
    assert places.tolist() == [[0, 2]]
    torch.testing.assert_close(cosines[0, 0], torch.tensor(1.0))


def test_vector_files(tmp_path: Path):
    path = tmp_path / "a.vec"
    path.write_text("2 2\nab 3 4\nac 0 2\n", encoding="utf-8")
    found = read_vectors(path)
    assert found.words == ["ab", "ac"]
    torch.testing.assert_close(found.vectors, torch.tensor([[0.6, 0.8], [0.0, 1.0]]))
    path.write_text("ab 3 4\nac 0\n", encoding="utf-8")
    with pytest.raises(ConfigError, match="line 2"):
        read_vectors(path)
    with pytest.raises(ConfigError, match="cannot read"):
        read_vectors(tmp_path / "absent.vec")


@pytest.mark.parametrize(
    ("name", "bad"),
    [
        ("wechsel", {"neighbors": 0}),
        ("wechsel", {"source_vectors": "a.vec"}),
        ("tokenadapt", {"global_weight": 1.5}),
        ("focus", {"temperature": 0.0}),
        ("omp", {"num_atoms": 9, "candidates": 8}),
        ("multivariate", {"scale": -1.0}),
        ("cw2v", {"lr": 0.0}),
        ("ridge", {"strength": -1.0}),
        ("combiner", {"parts": "ridge:x"}),
        ("combiner", {"parts": "combiner"}),
    ],
)
def test_bad_options_are_refused(name: str, bad: dict[str, Any]):
    with pytest.raises(ConfigError):
        INITIALIZERS.create(name, bad)


def test_without_text_the_methods_fall_back_to_the_mean():
    source, destination = vocabulary([]), vocabulary([("a", "b")])
    rows = torch.randn((source.vocab_size, 3), generator=torch.Generator().manual_seed(0))
    given = InitInput(source, destination, rows)
    for name in ("wechsel", "focus", "omp", "cw2v"):
        result = INITIALIZERS.create(name).initialize(given).input_embeddings
        torch.testing.assert_close(result[27], rows[:2].mean(0))


@pytest.mark.parametrize("weights", [(0.0, 1.0), (1.0, 0.0)])
def test_context_distillation_lowers_what_it_minimises(weights: tuple[float, float]):
    source, destination = vocabulary([]), vocabulary([("a", "b"), ("c", "d"), ("Ġ", "e")])
    model = tiny_model("llama", vocab_size=source.vocab_size)
    text = "ab cd ef ab cd e gh ab " * 20
    rows = model.get_input_embeddings().weight.detach()
    given = InitInput(source, destination, rows, texts=(text,), model=model)
    options = {"start": "mean", "length": 16, "batch": 4, "lr": 0.01}
    hidden, of_text = weights
    method = ContextDistillation(**options, steps=20, hidden_weight=hidden, text_weight=of_text)
    old, new = tokenize(source, [text]), tokenize(destination, [text])
    before, after = (
        float(method._loss(with_rows(model, start), model, old, new, [0, 20, 40], 16).detach())
        for start in (Mean().initialize(given), method.initialize(given))
    )
    assert 0 < after < 0.99 * before
    itself = float(method._loss(model, model, old, old, [0, 20, 40], 16).detach())
    assert (itself == 0.0) == (of_text == 0.0)  # the source's own states are at no distance


def test_context_distillation_leaves_shared_rows_while_it_trains():
    rows = torch.ones(6, 3, requires_grad=True)
    is_new = torch.tensor([False, True, False, True, False, False])
    ContextDistillation(steps=4)._fit([rows], is_new, lambda step: (rows * (step + 1)).sum())
    assert torch.equal(rows[~is_new], torch.ones(4, 3))
    assert bool((rows[is_new] < 1).all())


def test_context_distillation_starts_from_the_network_that_is_named(tmp_path: Path):
    source, destination = vocabulary([]), vocabulary([("a", "b"), ("c", "d")])
    model = tiny_model("llama", vocab_size=source.vocab_size)
    rows = model.get_input_embeddings().weight.detach()
    config = HypernetworkConfig(rows.shape[1], fingerprint(source), width=8, num_layers=1)
    network = Hypernetwork(config)
    torch.nn.init.normal_(network.leave.weight, generator=torch.Generator().manual_seed(1))
    network.save(tmp_path)
    given = InitInput(source, destination, rows, texts=("ab cd ef " * 20,), model=model)
    options = {"length": 16, "steps": 1, "lr": 1e-9}
    named = {"hypernetwork": str(tmp_path)}
    for more, start, start_options in (({}, "mean", {}), (named, "zett", named)):
        found = INITIALIZERS.create("context_distillation", {**options, **more}).initialize(given)
        begun = INITIALIZERS.create(start, start_options).initialize(given)
        torch.testing.assert_close(found.input_embeddings, begun.input_embeddings)


def test_tokenadapt_similar_tokens_weigh_by_their_cosine():
    source, destination = vocabulary([]), vocabulary([("x", "y")])
    old, new = torch.zeros(source.vocab_size, 2), torch.zeros(destination.vocab_size, 2)
    old[1], old[2] = torch.tensor([1.0, 0.0]), torch.tensor([0.0, 1.0])
    new[27] = torch.tensor([0.8, 0.6])
    given = InitInput(source, destination, torch.zeros(source.vocab_size, 2))
    found = TokenAdapt(neighbors=2, temperature=0.5)._similar(given, old, new, [27])[27]
    assert found.source_ids == [1, 2]
    expected = (torch.tensor([0.8, 0.6]) / 0.5).softmax(0).tolist()
    assert found.weights == pytest.approx(expected, abs=1e-6)


def test_focus_takes_as_many_neighbours_as_sparsemax_uses():
    merges = [(a, b) for a in LETTERS[:10] for b in LETTERS[10:]]
    source, destination = vocabulary(merges), vocabulary([*merges, ("z", "a")])
    text = " ".join(a + b for a, b in merges) + " za" * 20
    given = InitInput(source, destination, torch.eye(source.vocab_size), texts=(text,) * 3)
    mixed = Focus(temperature=1000.0, dim=8).initialize(given).input_embeddings[-1]
    assert int((mixed > 0).sum()) > 64
    torch.testing.assert_close(mixed.sum(), torch.tensor(1.0))


def test_focus_temperature_sharpens_the_mix():
    source, destination = vocabulary([]), vocabulary([("a", "b")])
    rows = torch.eye(source.vocab_size)
    text = "a xy b a uv b ab d a xy b ab v b d c ab " * 30
    given = InitInput(source, destination, rows, texts=(text,))
    sizes = [
        int((Focus(temperature=t, dim=8).initialize(given).input_embeddings[27] > 0).sum())
        for t in (0.05, 1.0)
    ]
    assert sizes[0] < sizes[1]


def test_omp_names_atoms_by_their_source_ids():
    source, destination = vocabulary([]), vocabulary([("a", "b")])
    space = torch.zeros(destination.vocab_size, 3)
    space[3], space[7], space[9] = torch.eye(3)
    space[27] = torch.tensor([0.0, 0.6, 0.8])
    matches = match_tokens(source, destination)
    given = InitInput(source, destination, torch.zeros(source.vocab_size, 2))
    method = Omp(num_atoms=2, candidates=3, ridge=0.0)
    found = method._combinations(given, matches, space, torch.tensor([27]))[27]
    assert dict(zip(found.source_ids, found.weights, strict=True)) == pytest.approx(
        {9: 0.8, 7: 0.6}, abs=1e-4
    )


def test_drawn_rows_have_the_spread_of_the_source():
    """Columns of spread 2 and 0.5 that go together: `random` keeps spreads, the other both."""
    source, destination = vocabulary([]), vocabulary([(a, b) for a in LETTERS for b in LETTERS])
    noise = torch.randn((source.vocab_size, 2), generator=torch.Generator().manual_seed(0))
    rows = noise @ torch.tensor([[2.0, 0.4], [0.0, 0.3]])
    given = InitInput(source, destination, rows)
    wanted = torch.cov(rows.T, correction=0)
    drawn = INITIALIZERS.create("random").initialize(given).input_embeddings[27:]
    torch.testing.assert_close(drawn.std(0), wanted.diagonal().sqrt(), rtol=0.1, atol=0)
    for scale in (1.0, 0.25):
        method = INITIALIZERS.create("multivariate", {"scale": scale})
        drawn = method.initialize(given).input_embeddings[27:]
        torch.testing.assert_close(torch.cov(drawn.T), scale * wanted, rtol=0.15, atol=0)


def test_ridge_follows_a_shift_of_all_rows():
    merges = [(a, b) for a in "abcd" for b in "ijkl"]
    source, destination = vocabulary(merges), vocabulary([*merges, ("a", "z")])
    generator = torch.Generator().manual_seed(0)
    rows = torch.randn((source.vocab_size, 4), generator=generator, dtype=torch.float64)
    method = INITIALIZERS.create("ridge", {"strength": 0.1})
    plain, shifted = (
        method.initialize(InitInput(source, destination, r)).input_embeddings
        for r in (rows, rows + 3)
    )
    torch.testing.assert_close(shifted, plain + 3)
