"""Laws of the runner, over every family: what a forward over a tree gives is what paths give."""

import contextlib
import functools
import random

import pytest
import torch
from transformers import DynamicCache, PreTrainedModel

from jeton.errors import ConfigError, TokenizerMismatchError, UnsupportedModelError
from jeton.lm.cache import SlotCache
from jeton.lm.lean_fused import FusedForward
from jeton.lm.pack import packed
from jeton.lm.runner import Runner
from jeton.lm.tree import TokenTree
from jeton.testing.models import CHAIN_ONLY_FAMILIES, FAMILIES, tiny_model

ALL_FAMILIES = FAMILIES + CHAIN_ONLY_FAMILIES
LEAN_FAMILIES = ("llama", "qwen2", "qwen3")
VOCAB = 64
# Qwen3-Next computes its recurrence in float32 whatever the dtype, and two of its own plain
# forwards (whole and split) differ by up to 2e-4 with weights as large as those of tiny models.
TOLERANCE = dict.fromkeys(ALL_FAMILIES, 1e-4) | {"qwen3_next": 1e-3}
needs_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")


@functools.cache
def model_of(family: str, dtype: torch.dtype = torch.float32, device: str = "cpu"):
    return tiny_model(family).to(device=device, dtype=dtype)


def plain(model: PreTrainedModel, token_ids: list[int]) -> torch.Tensor:
    """The logits after the last token by a fresh forward without a cache."""
    with torch.no_grad():
        found = model(input_ids=torch.tensor([token_ids], device=model.device), use_cache=False)
    return found.logits[0, -1].float()


def random_ids(rng: random.Random, count: int) -> list[int]:
    return [rng.randrange(VOCAB) for _ in range(count)]


def random_tree(rng: random.Random, num_nodes: int, *, is_chain: bool) -> TokenTree:
    parents = [-1] + [rng.randrange(-1, node) for node in range(1, num_nodes)]
    if is_chain:
        parents = list(range(-1, num_nodes - 1))
    elif num_nodes > 4:  # deep enough to leave the window of 6
        parents[1 : num_nodes // 2 + 1] = range(num_nodes // 2)
    return TokenTree(random_ids(rng, num_nodes), parents)


def worst_error(runner: Runner, tree: TokenTree) -> float:
    """Verify a tree; return the largest difference from the plain forward of any node's path."""
    logits = runner.verify(tree).logits
    assert logits.shape == (len(tree), VOCAB)
    assert logits.dtype == torch.float32
    errors = []
    for node in range(len(tree)):
        path = runner.token_ids + [tree.token_ids[index] for index in tree.path_to(node)]
        errors.append(float((logits[node] - plain(runner.model, path)).abs().max()))
    return max(errors)


def check_rounds(
    model: PreTrainedModel, *, tolerance: float, seed: int = 0, rounds: int = 4, lean: bool = True
) -> None:
    rng = random.Random(seed)
    runner = Runner(model, lean=lean)
    runner.prefill(random_ids(rng, 13), chunk=5)
    for num_nodes in [9, 1, 14, 5][:rounds]:
        tree = random_tree(rng, num_nodes, is_chain=not runner.supports_trees)
        before = runner.token_ids
        assert worst_error(runner, tree) <= tolerance
        path = tree.path_to(rng.randrange(-1, num_nodes))
        runner.commit(path)
        assert runner.token_ids == before + [tree.token_ids[node] for node in path]


@pytest.mark.parametrize("family", ALL_FAMILIES)
def test_tree_gives_the_logits_of_each_path(family):
    check_rounds(model_of(family), tolerance=TOLERANCE[family])


@pytest.mark.parametrize("family", LEAN_FAMILIES)
def test_tree_law_on_the_modules_and_with_packed_weights(family):
    model = model_of(family)
    check_rounds(model, tolerance=1e-4, lean=False)
    with packed(model):
        assert isinstance(Runner(model)._lean, FusedForward)
        check_rounds(model, tolerance=1e-5 * 5)


@pytest.mark.parametrize("family", ALL_FAMILIES)
def test_lean_where_it_can_be(family):
    runner = Runner(model_of(family))
    assert (runner.forward_kind == "lean") == (family in LEAN_FAMILIES), runner.forward_reason
    assert Runner(model_of(family), lean=False).forward_kind == "modules"


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda m: m.model.layers[1].mlp.register_forward_hook(lambda *_: None), "hooks"),
        (lambda m: vars(m.model.norm).__setitem__("forward", lambda x: x), "replaced"),
        (lambda m: setattr(m.model.layers[0], "extra", torch.nn.Linear(2, 2)), "parts of their"),
        (lambda m: setattr(m.model.layers[1].self_attn, "scaling", 0.9), "other logits"),
        (lambda m: setattr(m.config, "hidden_act", "gelu"), "activation"),
        (lambda m: m.model.layers[0].mlp.up_proj.double(), "dtypes"),
    ],
)
def test_lean_leaves_models_that_were_changed(change, reason):
    model = tiny_model("llama")
    change(model)
    runner = Runner(model)
    assert runner.forward_kind == "modules"
    assert reason in runner.forward_reason


def test_a_dry_run_finds_what_the_modules_do_not_show():
    model = tiny_model("llama")
    inner = type(model.model.layers[0].mlp)

    class Doubled(inner):
        def forward(self, x):
            return 2 * super().forward(x)

    model.model.layers[0].mlp.__class__ = Doubled
    runner = Runner(model)
    assert (runner.forward_kind, runner.forward_reason) == (
        "modules",
        "a dry run gave other logits",
    )
    with packed(model) as num_packed:
        assert num_packed == 15
        assert Runner(model).forward_kind == "modules"


@pytest.mark.parametrize("pack", [False, True])
def test_a_hook_in_the_midst_of_a_text_is_heard(pack):
    model, rng, heard = tiny_model("qwen3"), random.Random(11), []
    with packed(model) if pack else contextlib.nullcontext():
        runner = Runner(model)
        runner.prefill(random_ids(rng, 9))
        assert runner.forward_kind == "lean"
        handle = model.model.layers[1].register_forward_hook(lambda *_: heard.append(1))
        assert worst_error(runner, random_tree(rng, 6, is_chain=False)) <= 1e-4
        handle.remove()
    assert heard
    assert runner.forward_kind == "modules"


@pytest.mark.parametrize("family", FAMILIES)
def test_families_take_trees(family):
    assert Runner(model_of(family)).supports_trees


@pytest.mark.parametrize("family", ["llama", "mistral", "gemma3"])
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_tree_law_under_other_seeds(family, seed):
    check_rounds(model_of(family), tolerance=1e-4, seed=seed)


@pytest.mark.parametrize("family", ["mistral", "gemma3", "phi3"])
@pytest.mark.parametrize("length", [1, 4, 5, 6, 7, 12])
def test_tree_law_around_the_window(family, length):
    rng = random.Random(length)
    runner = Runner(model_of(family))
    runner.prefill(random_ids(rng, length))
    for num_nodes in (1, 2, 7, 12):
        for is_chain in (True, False):
            assert worst_error(runner, random_tree(rng, num_nodes, is_chain=is_chain)) <= 1e-4


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("family", FAMILIES)
def test_one_token_steps_have_the_bits_of_transformers(family, dtype):
    model = model_of(family, dtype)
    ids = random_ids(random.Random(9), 30)
    runner = Runner(model, lean=False)
    found = [runner.prefill(ids[:9])]
    for token_id in ids[9:]:
        found.append(runner.verify(TokenTree.chain([token_id])).logits[0])
        runner.commit([0])
    cache = DynamicCache(config=model.config)
    with torch.inference_mode():
        for step, part in enumerate([ids[:9], *([i] for i in ids[9:])]):
            logits = model(torch.tensor([part]), past_key_values=cache, logits_to_keep=1).logits
            assert torch.equal(found[step], logits[0, -1].float()), step


@pytest.mark.parametrize("family", ["llama", "mistral", "gemma2"])
def test_tree_law_with_eager_attention(family):
    model = tiny_model(family, attn_implementation="eager")
    assert model.config._attn_implementation == "eager"
    check_rounds(model, tolerance=1e-4)


@pytest.mark.parametrize("family", ALL_FAMILIES)
def test_bf16_agrees_up_to_its_rounding(family):
    # logits reach 3 to 5; two layers in bf16 leave a few times 2**-8 of that
    check_rounds(model_of(family, torch.bfloat16), tolerance=0.25, rounds=2)


@pytest.mark.gpu
@needs_cuda
@pytest.mark.parametrize("family", ALL_FAMILIES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_tree_law_on_cuda(family, dtype):
    tolerance = TOLERANCE[family] if dtype == torch.float32 else 0.25
    check_rounds(model_of(family, dtype, "cuda"), tolerance=tolerance)


@pytest.mark.parametrize("family", ALL_FAMILIES)
def test_chunked_prefill_equals_one_shot(family):
    ids = random_ids(random.Random(1), 19)
    model = model_of(family)
    expected = plain(model, ids)
    for chunk in (1, 4, 18, 512):
        found = Runner(model).prefill(torch.tensor(ids), chunk=chunk)
        torch.testing.assert_close(found, expected, atol=TOLERANCE[family], rtol=0)
    again = Runner(model)
    again.prefill(ids[:7])
    torch.testing.assert_close(again.prefill(ids[7:]), expected, atol=TOLERANCE[family], rtol=0)


@pytest.mark.parametrize("family", ALL_FAMILIES)
def test_truncate_and_refill_equals_plain(family):
    rng = random.Random(2)
    ids = random_ids(rng, 17)
    runner = Runner(model_of(family))
    runner.prefill(ids)
    runner.truncate(5)
    assert (runner.length, runner.token_ids) == (5, ids[:5])
    other = random_ids(rng, 9)
    found = runner.prefill(other)
    torch.testing.assert_close(
        found, plain(runner.model, ids[:5] + other), atol=TOLERANCE[family], rtol=0
    )
    runner.truncate(0)
    torch.testing.assert_close(
        runner.prefill(other), plain(runner.model, other), atol=TOLERANCE[family], rtol=0
    )


@pytest.mark.parametrize("family", FAMILIES)
def test_rejected_draft_leaves_the_rows_as_they_were(family):
    rng = random.Random(3)
    runner = Runner(model_of(family))
    runner.prefill(random_ids(rng, 11))
    assert isinstance(runner._cache, SlotCache)
    layers = runner._cache._layers
    rows = slice(0, 11)
    before = [(x.keys[:, :, rows].clone(), x.values[:, :, rows].clone()) for x in layers]
    runner.verify(random_tree(rng, 8, is_chain=False))
    runner.commit([])
    assert runner.length == 11
    for layer, (keys, values) in zip(layers, before, strict=True):
        assert layer.used == 11
        assert torch.equal(layer.keys[:, :, rows], keys)
        assert torch.equal(layer.values[:, :, rows], values)


@pytest.mark.parametrize("family", ALL_FAMILIES)
def test_forks_are_independent(family):
    rng = random.Random(4)
    model = model_of(family)
    ids, left, right = random_ids(rng, 9), random_ids(rng, 6), random_ids(rng, 6)
    runner = Runner(model)
    runner.prefill(ids)
    runner.verify(TokenTree.chain(left[:2]))
    fork = runner.fork()
    assert fork.length == 9
    runner.commit([0, 1])
    found_right = fork.prefill(right)
    found_left = runner.prefill(left[2:])
    torch.testing.assert_close(found_left, plain(model, ids + left), atol=TOLERANCE[family], rtol=0)
    torch.testing.assert_close(
        found_right, plain(model, ids + right), atol=TOLERANCE[family], rtol=0
    )


@pytest.mark.parametrize("family", ALL_FAMILIES)
def test_a_new_verify_drops_the_nodes_of_the_last(family):
    rng = random.Random(5)
    runner = Runner(model_of(family))
    runner.prefill(random_ids(rng, 8))
    runner.verify(TokenTree.chain(random_ids(rng, 5)))
    assert worst_error(runner, TokenTree.chain(random_ids(rng, 4))) <= TOLERANCE[family]


@pytest.mark.parametrize("family", ALL_FAMILIES)
def test_verify_works_on_an_empty_cache(family):
    rng = random.Random(6)
    runner = Runner(model_of(family))
    tree = random_tree(rng, 9, is_chain=not runner.supports_trees)
    assert worst_error(runner, tree) <= TOLERANCE[family]


@pytest.mark.parametrize("family", ["llama", "gemma3", "gpt2", "qwen3_next"])
def test_hidden_states_give_the_logits(family):
    runner = Runner(model_of(family))
    runner.prefill([1, 2, 3])
    found = runner.verify(TokenTree.chain([4, 5]), hidden=True)
    assert found.hidden is not None
    assert found.hidden.shape == (2, 32)
    with torch.no_grad():
        logits = runner.model.get_output_embeddings()(found.hidden)
    torch.testing.assert_close(logits, found.logits, atol=1e-4, rtol=0)


@pytest.mark.parametrize("family", CHAIN_ONLY_FAMILIES)
def test_recurrent_models_refuse_trees_and_stay_usable(family):
    runner = Runner(model_of(family))
    runner.prefill([1, 2, 3])
    assert not runner.supports_trees
    with pytest.raises(UnsupportedModelError, match="chains"):
        runner.verify(TokenTree([4, 5], [-1, -1]))
    assert runner.length == 3
    assert worst_error(runner, TokenTree.chain([4, 5, 6])) <= TOLERANCE[family]


def test_dry_run_refuses_a_model_that_ignores_masks():
    model = tiny_model("llama")
    inner = model.model.forward
    model.model.forward = lambda *args, attention_mask=None, **kwargs: inner(*args, **kwargs)
    runner = Runner(model)
    assert not runner.supports_trees
    runner.prefill([1, 2])
    with pytest.raises(UnsupportedModelError):
        runner.verify(TokenTree([4, 5], [-1, -1]))


@pytest.mark.parametrize("family", ["llama", "mistral", "gpt2", "mamba"])
def test_greedy_equals_generate(family):
    model = model_of(family)
    prompt = random_ids(random.Random(7), 9)
    expected = model.generate(
        torch.tensor([prompt]),
        attention_mask=torch.ones(1, len(prompt), dtype=torch.int64),
        max_new_tokens=40,
        min_new_tokens=40,
        do_sample=False,
        eos_token_id=None,
    )[0].tolist()
    runner = Runner(model)
    logits = runner.prefill(prompt)
    found = list(prompt)
    while len(found) < len(expected):
        found.append(int(logits.argmax()))
        logits = runner.verify(TokenTree.chain(found[-1:])).logits[0]
        runner.commit([0])
    assert found == expected


def test_cache_grows_beyond_its_first_rows():
    model = tiny_model("llama", max_position_embeddings=1024)
    ids = random_ids(random.Random(8), 700)
    runner = Runner(model)
    found = runner.prefill(ids, chunk=90)
    torch.testing.assert_close(found, plain(model, ids), atol=1e-4, rtol=0)


def test_misuse_is_refused_and_changes_nothing():
    runner = Runner(model_of("llama"), max_length=10)
    runner.prefill([1, 2, 3])
    with pytest.raises(ConfigError, match="exceed the limit of 10"):
        runner.prefill([4] * 8)
    with pytest.raises(ConfigError, match="exceed the limit of 10"):
        runner.verify(TokenTree.chain([4] * 8))
    runner.verify(TokenTree([4] * 8, [-1] * 8))  # wide is not deep
    runner.commit([])
    for ids in ([64], [-1]):
        with pytest.raises(TokenizerMismatchError, match="64 embeddings"):
            runner.prefill(ids)
        with pytest.raises(TokenizerMismatchError, match="64 embeddings"):
            runner.verify(TokenTree.chain(ids))
    with pytest.raises(ConfigError, match="nothing to commit"):
        runner.commit([0])
    with pytest.raises(ConfigError):
        runner.prefill([])
    with pytest.raises(ConfigError):
        runner.verify(TokenTree([], []))
    with pytest.raises(ConfigError):
        runner.truncate(4)
    runner.verify(TokenTree.from_paths([[4, 5], [6]]))
    for no_path in ([1], [0, 2], [3], [0, 0], [-1]):
        with pytest.raises(ConfigError, match="no path"):
            runner.commit(no_path)
    runner.commit([0, 1])
    assert runner.token_ids == [1, 2, 3, 4, 5]
    runner.reset()
    assert runner.length == 0


def test_runner_refuses_unfit_models_and_lengths():
    model = tiny_model("gpt2")
    with pytest.raises(ConfigError, match="max_length"):
        Runner(model, max_length=257)
    with pytest.raises(ConfigError, match="max_length"):
        Runner(model, max_length=0)
    with pytest.raises(ConfigError, match="training mode"):
        Runner(model.train())


class Recording(SlotCache):
    """A cache that writes down what it is told is final."""

    def __init__(self, config, max_length):
        super().__init__(config, [None] * config.num_hidden_layers, max_length)
        self.settled = []

    def settle(self, length):
        self.settled.append(length)


def test_a_cache_of_ones_own_is_told_what_is_final():
    model = model_of("llama")
    runner = Runner(model, cache=Recording)
    runner.prefill([1, 2, 3, 4, 5], chunk=2)
    assert worst_error(runner, TokenTree.from_paths([[6, 7], [8]])) <= 1e-4
    runner.commit([0, 1])
    runner.verify(TokenTree.chain([9]))
    runner.commit([])
    assert runner._cache.settled == [2, 4, 5, 7, 7]
