"""The laws of cache policies as checks; `kv_baselines` has a random baseline and an oracle.

A check takes a small policy (budget about 24) and raises AssertionError where a law is broken.
Numbers are float64, so that only a real difference shows.
"""

from contextlib import nullcontext
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel

from jeton.kv.attached import Attached, attach
from jeton.kv.budget_layer import BudgetLayer
from jeton.kv.contract import EVICT, CachePolicy, Rows
from jeton.kv.evict import EvictPolicy
from jeton.kv.select import SelectPolicy
from jeton.kv.select_layer import SelectLayer
from jeton.lm.runner import Runner
from jeton.lm.tree import TokenTree
from jeton.testing.models import tiny_model

PROMPT = 52
_TOLERANCE = 1e-9


def model_for_laws(family: str = "llama") -> PreTrainedModel:
    """Return a tiny model in float64, in which rounding decides nothing."""
    return tiny_model(family, max_position_embeddings=512).double()


def _ids(batch: int = 1, length: int = PROMPT, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(1, 64, (batch, length), generator=generator)


def _decode(
    model: PreTrainedModel,
    ids: Tensor,
    *,
    num_new: int = 28,
    mask: Tensor | None = None,
    chunk: int | None = None,
    attached: Attached | None = None,
) -> Tensor:
    """Return the logits of forced decoding: a prompt in chunks, then one token at a time.

    What is attached is told which forwards read the prompt, where it is given.
    """
    rows: list[Tensor] = []
    cache: Any = None
    prompt = ids.shape[1] - num_new
    starts = list(range(0, prompt, chunk or prompt))
    steps = [(s, min(s + (chunk or prompt), prompt)) for s in starts]
    steps += [(s, s + 1) for s in range(prompt, ids.shape[1])]
    with torch.inference_mode():
        for number, (start, end) in enumerate(steps):
            options: dict[str, Any] = {}
            if mask is not None:
                options["attention_mask"] = mask[:, :end]
                positions = mask[:, :end].cumsum(-1) - 1
                options["position_ids"] = positions.clamp_min(0)[:, start:end]
            read = attached.prompt() if attached and number < len(starts) else nullcontext()
            with read:
                output = model(
                    input_ids=ids[:, start:end], past_key_values=cache, use_cache=True, **options
                )
            cache = output.past_key_values
            rows.append(output.logits[:, -1])
    return torch.stack(rows[len(starts) - 1 :], dim=1)


def check_dense_within_budget(policy: CachePolicy, family: str = "llama") -> None:
    """While the context fits the budget, every logit has the bits of the plain model."""
    model = tiny_model(family, max_position_embeddings=512)
    ids = _ids(2, 72)
    mask = torch.ones_like(ids)
    mask[1, :5] = 0
    wide = replace(policy, budget=128)
    for given in (None, mask):
        plain = _decode(model, ids, mask=given)
        with attach(model, wide):
            found = _decode(model, ids, mask=given)
        assert torch.equal(found, plain), "a budget above the context changes the output"


def check_budget_and_memory(policy: CachePolicy) -> None:
    """Evicting keeps budget rows with sinks and recent ones inside, in budget + stride rows."""
    model = model_for_laws()
    ids = _ids(1, PROMPT + 28)
    with attach(model, policy) as attached:
        _decode(model, ids)
        for layer in attached.layers.values():
            if isinstance(layer, BudgetLayer):
                _check_rows(layer, policy, ids.shape[1])
            else:
                _check_selection(layer, policy)


def _check_rows(layer: BudgetLayer, policy: CachePolicy, length: int) -> None:
    assert isinstance(policy, EvictPolicy)
    stores = layer.stores
    heads = sum(store.kv_heads for store in stores)
    budget = sum(store.budget * store.kv_heads for store in stores)
    capacity = sum(store.capacity * store.kv_heads for store in stores)
    assert budget == policy.budget * heads, "heads share more or less than the layer's budget"
    assert capacity == (policy.budget + policy.stride) * heads, "memory is not budget + stride"
    for store in stores:
        assert store.used < store.budget + policy.stride
        positions = store.positions[:, :, : store.used]
        assert bool((positions.diff(dim=-1) > 0).all()), "rows are out of order"
        always = [*range(policy.sinks), *range(length - policy.recent, length)]
        for row in positions.flatten(0, 1).tolist():
            assert set(always) <= set(row), "a sink or a recent token was dropped"


def _check_selection(layer: SelectLayer, policy: CachePolicy) -> None:
    """Ask for one more choice and look at it."""
    assert isinstance(policy, SelectPolicy)
    assert layer.store is not None
    store = layer.store
    length = store.used
    keys = store.keys[:1, :, : length - 1]
    rows = Rows(
        keys=keys,
        values=store.values[:1, :, : length - 1],
        positions=torch.arange(length - 1).expand(1, keys.shape[1], -1),
        lengths=torch.tensor([length]),
        scaling=keys.shape[-1] ** -0.5,
    )
    query = torch.randn(4, keys.shape[-1], generator=torch.Generator().manual_seed(0)).to(keys)
    choice = policy.choose(None, query, rows)
    if choice.selection is None:  # a full step attends to all; the next one recycles
        choice = policy.choose(choice.state, query, rows)
    assert choice.selection is not None
    columns, since = choice.selection.columns, choice.selection.since
    assert bool((columns.diff(dim=-1) > 0).all())
    assert columns.shape[1] + length - since <= policy.budget, "more than the budget is attended"
    assert since <= length - policy.recent, "a recent token is left out"
    assert bool((columns < since).all())
    if policy.sinks:
        first = columns[:, : policy.sinks]
        assert torch.equal(first, torch.arange(policy.sinks).expand_as(first)), "a sink is left out"


def check_groups(policy: CachePolicy) -> None:
    """Scores of grouped heads are the mean of those of explicitly repeated keys.

    A selection equals that of a group alone, or that of repeated keys where all heads share it.
    """
    generator = torch.Generator().manual_seed(1)
    query = torch.randn(1, 4, 1, 8, generator=generator, dtype=torch.float64)
    keys = torch.randn(1, 2, 30, 8, generator=generator, dtype=torch.float64)
    repeated = keys.repeat_interleave(2, dim=1)
    if isinstance(policy, SelectPolicy):
        grouped = _chosen(policy, query, keys)
        whole = _chosen(policy, query, repeated)
        for head in range(2):
            own = _chosen(policy, query[:, 2 * head : 2 * head + 2], keys[:, head : head + 1])
            alike = [torch.equal(grouped[head], other) for other in (own[0], whole[2 * head])]
            assert any(alike), "the mapping of query to key heads is wrong"
        return
    assert isinstance(policy, EvictPolicy)
    queries = torch.randn(1, 4, 6, 8, generator=generator, dtype=torch.float64)
    scores = policy.score(_rows(keys, queries)).float()
    each = policy.score(_rows(repeated, queries)).float().view(1, 2, 2, -1)
    linear = each.mean(2)
    assert torch.allclose(scores, linear, atol=1e-5), "the mapping of query to key heads is wrong"


def _chosen(policy: SelectPolicy, query: Tensor, keys: Tensor) -> Tensor:
    rows = replace(_rows(keys, None), lengths=torch.tensor([keys.shape[2] + 1]))
    choice = policy.choose(None, query[0, :, 0], rows)
    if choice.selection is None:
        choice = policy.choose(choice.state, query[0, :, 0], rows)
    assert choice.selection is not None
    return choice.selection.columns


def _rows(keys: Tensor, queries: Tensor | None) -> Rows:
    num_rows = keys.shape[2]
    mass = torch.linspace(0, 1, num_rows).expand(*keys.shape[:3])
    return Rows(
        keys=keys,
        values=keys,
        positions=torch.arange(num_rows).expand(*keys.shape[:3]),
        lengths=torch.tensor([num_rows]),
        mass=mass,
        queries=queries,
        scaling=keys.shape[-1] ** -0.5,
    )


def check_padding(policy: CachePolicy) -> None:
    """A left-padded batch gives what its texts give alone."""
    model = model_for_laws()
    ids = _ids(2, PROMPT + 28)
    pad = 9
    mask = torch.ones_like(ids)
    mask[1, :pad] = 0
    with attach(model, policy):
        both = _decode(model, ids, mask=mask)
        first = _decode(model, ids[:1])
        second = _decode(model, ids[1:, pad:])
    assert float((both[:1] - first).abs().max()) < _TOLERANCE, "a text depends on its batch"
    assert float((both[1:] - second).abs().max()) < _TOLERANCE, "a text depends on its padding"


def check_chunks(policy: CachePolicy) -> None:
    """A prompt read in chunks gives what one forward gives, also in chunks of one token.

    A policy that chooses by chunks is given multiples of its own.
    """
    model = model_for_laws()
    ids = _ids(1, PROMPT + 28)
    own = policy.chunk if isinstance(policy, SelectPolicy) else 0
    with attach(model, policy) as attached:
        once = _decode(model, ids)
        for chunk in (own, 2 * own) if own else (11, 17, 1):  # 17 leaves one token to the last
            parts = _decode(model, ids, chunk=chunk, attached=attached)
            difference = float((once - parts).abs().max())
            assert difference < _TOLERANCE, f"chunks of {chunk} tokens change the output"


def check_speculation(policy: CachePolicy) -> None:
    """Drafts, right or wrong, chains or trees, leave the greedy text and the cache as they were."""
    model = model_for_laws()
    prompt = _ids(1)[0].tolist()
    with attach(model, policy) as attached:
        plain = _greedy(attached, prompt, 28)
        for width in (1, 2):
            drafted = _speculate(attached, prompt, plain, width)
            assert drafted == plain, "speculation changes the text"
        _check_rejection(attached, prompt)


def _greedy(attached: Attached, prompt: list[int], num_new: int) -> list[int]:
    runner = Runner(attached.model, cache=attached.cache())
    token_ids = [int(runner.prefill(prompt).argmax())]
    while len(token_ids) < num_new:
        logits = runner.verify(TokenTree.chain([token_ids[-1]])).logits
        runner.commit([0])
        token_ids.append(int(logits[0].argmax()))
    return token_ids


def _speculate(attached: Attached, prompt: list[int], right: list[int], width: int) -> list[int]:
    """Decode with drafts that are right for a while and then wrong; trees where width is 2."""
    runner = Runner(attached.model, cache=attached.cache())
    token_ids = [int(runner.prefill(prompt).argmax())]
    turn = 0
    while len(token_ids) < len(right):
        turn += 1
        room = (runner.room or 8) - 1
        ahead = right[len(token_ids) : len(token_ids) + 5]
        good = turn % 4
        path = [*ahead[:good], *((token + 7) % 64 for token in ahead[good:])][: max(room, 0)]
        paths = [[token_ids[-1], *path]]
        if width == 2:
            other = [(token + 3) % 64 for token in path]
            paths = [[token_ids[-1], *other], [token_ids[-1], *path]]
        tree = TokenTree.from_paths(paths)
        verified = runner.verify(tree)
        kept, node = [0], 0
        while True:
            token_ids.append(int(verified.logits[node].argmax()))
            following = [c for c in tree.children(node) if tree.token_ids[c] == token_ids[-1]]
            if not following:
                break
            node = following[0]
            kept.append(node)
        runner.commit(kept)
    return token_ids[: len(right)]


def _check_rejection(attached: Attached, prompt: list[int]) -> None:
    runner = Runner(attached.model, cache=attached.cache())
    runner.prefill(prompt)
    runner.verify(TokenTree.chain([3]))
    runner.commit([0])
    before = _state(attached)
    runner.verify(TokenTree.from_paths([[5, 6], [7]]))
    runner.commit([])
    for old, new in zip(before, _state(attached), strict=True):
        assert torch.equal(old, new), "a rejected draft leaves a trace in the cache"


def _state(attached: Attached) -> list[Tensor]:
    """Return a copy of all rows in use."""
    found = []
    for layer in attached.layers.values():
        if isinstance(layer, BudgetLayer):
            stores = layer.stores
        else:
            assert layer.store is not None
            stores = [layer.store]
        for store in stores:
            used = slice(0, store.used)
            found += [store.keys[:, :, used].clone(), store.values[:, :, used].clone()]
            if store.mass is not None:
                found.append(store.mass[:, :, used].clone())
            if isinstance(layer, BudgetLayer):
                found.append(store.positions[:, :, used].clone())
    return found


def check_determinism(policy: CachePolicy) -> None:
    """The same seed gives the same bits."""
    model = model_for_laws()
    ids = _ids(1, PROMPT + 24)
    with attach(model, policy):
        assert torch.equal(_decode(model, ids, num_new=24), _decode(model, ids, num_new=24))


def check_fork(policy: CachePolicy) -> None:
    """A forked runner goes on as its original does, and does not disturb it."""
    model = model_for_laws()
    prompt = _ids(1)[0].tolist()
    with attach(model, policy) as attached:
        runner, alone = (Runner(model, cache=attached.cache()) for _ in range(2))
        for each in (runner, alone):
            each.prefill(prompt)
            for token in range(4, 24):
                _step(each, token)
        twin, other = runner.fork(), runner.fork()
        for token in range(30, 50):
            ours, theirs, wanted = (_step(each, token) for each in (runner, twin, alone))
            _step(other, 63 - token)
            assert torch.equal(ours, theirs), "a fork differs from its original"
            assert torch.equal(ours, wanted), "a fork disturbs its original"


def _step(runner: Runner, token: int) -> Tensor:
    """Return the logits after one more token."""
    logits = runner.verify(TokenTree.chain([token])).logits
    runner.commit([0])
    return logits


def check_effect(policy: CachePolicy) -> None:
    """A budget below the context changes the output: the policy is not silently dense."""
    model = model_for_laws()
    ids = _ids(1, PROMPT + 28)
    plain = _decode(model, ids)
    with attach(model, policy):
        found = _decode(model, ids)
    assert float((found - plain).abs().max()) > 1e-6, "the policy does nothing"
    if policy.kind == EVICT:
        assert torch.equal(found[:, 0], plain[:, 0]), "a prompt is attended in full"


LAWS = (
    check_dense_within_budget,
    check_budget_and_memory,
    check_groups,
    check_padding,
    check_chunks,
    check_speculation,
    check_determinism,
    check_fork,
    check_effect,
)
