"""Contract checks of initializers and healers; authors of plug-ins run the same ones."""

import copy
import json
from typing import Any

import torch
from torch import Tensor

from jeton.core.vocabulary import Vocabulary
from jeton.testing.models import tiny_model
from jeton.transfer.contract import EmbeddingInitializer, HealInput, InitInput, InitResult


def permuted_vocabulary(vocabulary: Vocabulary, order: list[int]) -> Vocabulary:
    """Return the same BPE tokenizer with id `order[i]` renamed to `i`.

    Args:
        vocabulary: Read from a tokenizer.json of a BPE model.
        order: A permutation of all ids.
    """
    assert vocabulary.tokenizer_json is not None
    document = json.loads(vocabulary.tokenizer_json)
    new_id = {old: new for new, old in enumerate(order)}
    model = document["model"]
    model["vocab"] = {token: new_id[old] for token, old in model["vocab"].items()}
    for added in document["added_tokens"]:
        added["id"] = new_id[added["id"]]
    document["added_tokens"].sort(key=lambda added: added["id"])
    document["post_processor"] = None  # it may name ids
    return Vocabulary.from_tokenizer_json(document)


def make_input(
    source: Vocabulary, destination: Vocabulary, *, tied: bool, padding: int = 3
) -> InitInput:
    """Return a tiny seeded model of the source vocabulary, with padded rows, and its matrices."""
    num_rows = source.vocab_size + padding
    model: Any = tiny_model("llama", vocab_size=num_rows, hidden_size=16, tie_word_embeddings=tied)
    head = model.get_output_embeddings()
    if not tied:
        generator = torch.Generator().manual_seed(0)
        head.bias = torch.nn.Parameter(torch.randn(num_rows, generator=generator))
    return InitInput(
        source=source,
        destination=destination,
        input_embeddings=model.get_input_embeddings().weight.detach(),
        output_embeddings=None if tied else head.weight.detach(),
        output_bias=None if tied else head.bias.detach(),
        texts=("def f(x):\n    return x\n", "a b c " * 20),
        model=model,
    )


def check_initializer(
    initializer: EmbeddingInitializer, source: Vocabulary, destination: Vocabulary
) -> None:
    """Check laws 1 to 4 of `jeton.transfer.contract`; raises AssertionError."""
    for tied in (True, False):
        same = make_input(source, source, tied=tied)
        _assert_rows_equal(initializer.initialize(same), same, list(range(source.vocab_size)))

        order = list(range(source.vocab_size))[::-1]
        renamed = make_input(source, permuted_vocabulary(source, order), tied=tied)
        _assert_rows_equal(initializer.initialize(renamed), renamed, order)

        given = make_input(source, destination, tied=tied)
        before = given.input_embeddings.clone()
        result = initializer.initialize(given)
        assert torch.equal(given.input_embeddings, before), "the source was changed"
        again = initializer.initialize(given)
        assert torch.equal(result.input_embeddings, again.input_embeddings), "not deterministic"
        _assert_complete(result, given)
        if initializer.copies_shared:
            _assert_shared_rows_copied(result, given)


def _assert_rows_equal(result: InitResult, given: InitInput, order: list[int]) -> None:
    # Tokens with equal bytes may stand for each other: compare through the bytes.
    assert torch.equal(result.input_embeddings, given.input_embeddings[order])
    if given.output_embeddings is not None:
        assert result.output_embeddings is not None and result.output_bias is not None
        assert torch.equal(result.output_embeddings, given.output_embeddings[order])
        assert given.output_bias is not None
        assert torch.equal(result.output_bias, given.output_bias[order])


def _assert_complete(result: InitResult, given: InitInput) -> None:
    size = given.destination.vocab_size
    assert result.input_embeddings.shape == (size, given.input_embeddings.shape[1])
    assert (result.output_embeddings is None) == (given.output_embeddings is None), "tie broken"
    for matrix in (result.input_embeddings, result.output_embeddings, result.output_bias):
        if matrix is not None:
            assert matrix.shape[0] == size
            assert bool(torch.isfinite(matrix).all()), "a row is not finite"
            rows: Tensor = matrix if matrix.ndim == 2 else matrix[:, None]
            assert bool((rows.abs().sum(1) > 0).all()), "a row was left untouched"
    assert result.num_copied + result.num_composed + result.num_fallback == size


def _assert_shared_rows_copied(result: InitResult, given: InitInput) -> None:
    ids = {}
    for token_id in range(given.source.vocab_size - 1, -1, -1):
        ids[given.source.tokens[token_id]] = token_id
    shared = 0
    for token_id, data in enumerate(given.destination.tokens):
        if data and data in ids and given.source.tokens.count(data) == 1:
            shared += 1
            row = given.input_embeddings[ids[data]]
            assert torch.equal(result.input_embeddings[token_id], row), f"{data!r} was not copied"
    assert shared > 0, "the vocabularies share nothing: the check is empty"


def check_healer_resumes(healer: Any, inputs: HealInput, kill_after: int) -> None:
    """Check law 5: stopping at any step and starting again gives the same weights.

    Args:
        healer: The method.
        inputs: With a checkpoint path in an empty folder and `num_steps` > `kill_after`.
        kill_after: Steps before the interruption.
    """
    assert inputs.checkpoint is not None and 0 < kill_after < inputs.num_steps
    straight = copy.deepcopy(inputs.model)
    healer.heal(_with(inputs, model=straight, checkpoint=None))
    first = copy.deepcopy(inputs.model)
    interrupted = False
    try:
        healer.heal(_with(inputs, model=first, progress=_Killer(kill_after)))
    except KeyboardInterrupt:
        interrupted = True
    assert interrupted and inputs.checkpoint.is_file(), "the killed run left no checkpoint"
    second = copy.deepcopy(inputs.model)
    counter = _Counter()
    result = healer.heal(_with(inputs, model=second, progress=counter))
    assert 0 < counter.num_steps <= inputs.num_steps - kill_after, "it began from the start"
    assert result.num_steps == inputs.num_steps
    for (name, a), b in zip(straight.named_parameters(), second.parameters(), strict=True):
        assert torch.equal(a, b), f"{name} differs after a resumed run"
    changed = [
        not torch.equal(a, b)
        for a, b in zip(straight.parameters(), inputs.model.parameters(), strict=True)
    ]
    assert any(changed), "healing changed nothing"


def _with(inputs: HealInput, **changes: Any) -> HealInput:
    from dataclasses import replace

    return replace(inputs, **changes)


class _Counter:
    """A progress that counts the steps that were taken."""

    num_steps = 0

    def track(self, items: Any, total: int | None, what: str, unit: str) -> Any:
        """Yield items and count them."""
        for item in items:
            self.num_steps += 1
            yield item

    def stage(self, what: str) -> None:
        """Say nothing."""


class _Killer:
    """A progress that presses Ctrl-C after so many steps."""

    def __init__(self, steps: int) -> None:
        self.steps_left = steps

    def track(self, items: Any, total: int | None, what: str, unit: str) -> Any:
        """Yield items, then interrupt this process; several bars count as one."""
        import signal

        for item in items:
            if self.steps_left == 0:
                signal.raise_signal(signal.SIGINT)
            self.steps_left -= 1
            yield item

    def stage(self, what: str) -> None:
        """Say nothing."""
