"""Checks that every drafter and verifier must pass, with the drafters that try to break them.

The reference is written apart from the engine: one forward over the whole text per token, no
cache, the logits processors of transformers.
"""

import copy
import dataclasses
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor
from transformers import (
    LogitsProcessorList,
    MinPLogitsWarper,
    RepetitionPenaltyLogitsProcessor,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from jeton.core.formats.source import ModelKind, Source, StartRule, TokenKind
from jeton.core.vocabulary import Vocabulary
from jeton.decoding.contract import (
    COUPLED,
    DraftContext,
    Drafter,
    Sampling,
    Selection,
    Step,
    TreeLogits,
    Verifier,
)
from jeton.decoding.create import default_verifier
from jeton.decoding.engine import DecodingLoop
from jeton.decoding.noise import gumbel
from jeton.lm.cost import CostTable
from jeton.lm.load import LanguageModel
from jeton.lm.tree import TokenTree
from jeton.testing.models import tiny_model

STOP_ID = 0


_FIRST_BYTE = 33  # of id 1


class _Bytes(Source):
    """An engine of one id per byte; bytes without an id become id 1."""

    takes_bytes = True

    def __init__(self, vocab_size: int) -> None:
        self.vocab_size = vocab_size

    def encode_bytes(self, data: bytes) -> list[int]:
        ids = [byte - _FIRST_BYTE + 1 for byte in data]
        return [i if 1 <= i < self.vocab_size else 1 for i in ids]

    def encode(self, text: str, *, is_start: bool = True) -> list[int]:
        return self.encode_bytes(text.encode())


class _Shuffled(_Bytes):
    """The same with other ids."""

    def __init__(self, vocab_size: int, places: dict[int, int]) -> None:
        super().__init__(vocab_size)
        self.places = places

    def encode_bytes(self, data: bytes) -> list[int]:
        return [self.places[i] for i in super().encode_bytes(data)]


def tiny_language_model(
    family: str, seed: int = 0, *, vocab_size: int = 61, **overrides: Any
) -> LanguageModel:
    """Return a tiny random model with a vocabulary of single bytes and some padded rows.

    Args:
        family: Of `jeton.testing.models`.
        seed: Of the weights.
        vocab_size: Ids that the tokenizer knows, at most the model's 64 rows; id 0 ends a text.
        overrides: Fields of the model's configuration.
    """
    model = tiny_model(family, seed, **overrides)
    kinds = np.full(vocab_size, TokenKind.BYTE, dtype=np.uint8)
    kinds[STOP_ID] = TokenKind.SPECIAL
    vocabulary = Vocabulary(
        name=f"tiny {family}",
        tokens=[b"", *(bytes([_FIRST_BYTE + i]) for i in range(vocab_size - 1))],
        kinds=kinds,
        special_tokens={"<end>": STOP_ID},
        added_tokens={},
        model_kind=ModelKind.BYTE_LEVEL_BPE,
        start_rule=StartRule.NONE,
        normalizer=None,
        eos_token_id=STOP_ID,
        source=_Bytes(vocab_size),
    )
    return LanguageModel(model, None, vocabulary, f"tiny {family}")


def with_other_ids(lm: LanguageModel, seed: int = 0) -> LanguageModel:
    """Return a model of the same law over bytes that has other ids: its own, shuffled.

    Args:
        lm: A tiny model of single bytes.
        seed: Of the order.
    """
    tokens, model = lm.vocabulary.tokens, copy.deepcopy(lm.model)
    order = [STOP_ID, *random.Random(seed).sample(range(1, len(tokens)), len(tokens) - 1)]
    rows = [*order, *range(len(tokens), lm.num_embeddings)]
    parts: list[Any] = [model.get_input_embeddings(), model.get_output_embeddings()]
    tables = [part.weight for part in parts]
    for table in {id(table): table for table in tables}.values():
        table.data.copy_(table.data[rows].clone())
    places = {old: new for new, old in enumerate(order)}
    vocabulary = dataclasses.replace(
        lm.vocabulary,
        tokens=[tokens[old] for old in order],
        source=_Shuffled(lm.vocabulary.vocab_size, places),
    )
    return LanguageModel(model, None, vocabulary, f"{lm.name}, other ids")


def transformers_processors(sampling: Sampling) -> LogitsProcessorList:
    """Return transformers' own processors for a sampling, in the order in which it runs them."""
    found: list[Any] = []
    if sampling.repetition_penalty != 1.0:
        found.append(RepetitionPenaltyLogitsProcessor(penalty=sampling.repetition_penalty))
    if sampling.temperature > 0:
        found.append(TemperatureLogitsWarper(sampling.temperature))
        if sampling.top_k:
            found.append(TopKLogitsWarper(sampling.top_k))
        if sampling.top_p < 1:
            found.append(TopPLogitsWarper(sampling.top_p))
        if sampling.min_p > 0:
            found.append(MinPLogitsWarper(sampling.min_p))
    return LogitsProcessorList(found)


@torch.inference_mode()
def reference_ids(
    lm: LanguageModel,
    prompt: Sequence[int],
    *,
    max_new_tokens: int,
    sampling: Sampling | None = None,
    stop_ids: Sequence[int] = (),
) -> list[int]:
    """Return what plain decoding gives, without cache, engine, filters or verifier."""
    sampling = sampling or Sampling()
    processors: Any = transformers_processors(sampling)
    ids = list(prompt)
    longest = lm.max_length or len(ids) + max_new_tokens
    while len(ids) < min(len(prompt) + max_new_tokens, longest):
        seen = torch.tensor([ids], device=lm.device)
        logits = lm.model(input_ids=seen, use_cache=False).logits[:, -1].float()
        scores = processors(seen, logits[:, : lm.vocabulary.vocab_size])[0]
        if sampling.temperature > 0:
            noise = gumbel(sampling.seed, len(ids), scores.shape[-1])
            scores = scores.double() + noise.to(scores.device)
        ids.append(int(scores.argmax()))
        if ids[-1] in stop_ids:
            break
    return ids[len(prompt) :]


def check_equals_plain(
    lm: LanguageModel,
    prompt: Sequence[int],
    drafter: Drafter | None,
    *,
    verifier: Verifier | None = None,
    sampling: Sampling | None = None,
    max_new_tokens: int = 24,
    stop_ids: Sequence[int] = (),
    num_draft_tokens: int = 6,
    draft_model: LanguageModel | None = None,
    expected: Sequence[int] | None = None,
    cost: CostTable | None = None,
) -> DecodingLoop:
    """Check that a drafter leaves the tokens of plain decoding as they are; return the loop.

    Args:
        lm: Float32 on the CPU, so that the width of a forward cannot flip an argmax.
        prompt: Token ids.
        drafter: Under test.
        verifier: None takes the default one.
        sampling: None is greedy.
        max_new_tokens: Upper bound.
        stop_ids: That end the text.
        num_draft_tokens: Nodes per draft.
        draft_model: For drafters that need one.
        expected: What plain decoding gives, when it is known already.
        cost: Cuts the drafts.
    Raises:
        AssertionError: the tokens differ, or the drafter broke a bound.
    """
    sampling = sampling or Sampling()
    if expected is None:
        expected = reference_ids(
            lm, prompt, max_new_tokens=max_new_tokens, sampling=sampling, stop_ids=stop_ids
        )
    watched: Any = None if drafter is None else Watched(drafter, num_draft_tokens)
    loop = DecodingLoop(
        lm,
        drafter=watched,
        verifier=verifier or default_verifier(sampling),
        sampling=sampling,
        num_draft_tokens=num_draft_tokens,
        draft_model=draft_model,
        cost=cost,
    )
    found: list[int] = []
    for new in loop.run(list(prompt), max_new_tokens, frozenset(stop_ids)):
        found.extend(new)
    assert found == list(expected), f"drafted {found}, plain {list(expected)}"
    assert loop.stats.num_tokens == len(found)
    if watched is not None:
        watched.check_observed(found)
    return loop


class Watched:
    """A drafter that passes everything on to another one and checks the contract on the way."""

    makes_trees: bool
    needs: frozenset[str]
    fixes_draws: bool

    def __init__(self, inner: Drafter, num_draft_tokens: int) -> None:
        self.inner, self.num_draft_tokens = inner, num_draft_tokens
        self.makes_trees, self.needs = inner.makes_trees, inner.needs
        self.fixes_draws = inner.fixes_draws
        self.observed: list[int] = []
        self.trees: list[TokenTree] = []
        self._vocab_size = 0
        self._proposed: TokenTree | None = None

    def begin(self, context: DraftContext) -> None:
        """Pass on."""
        self._vocab_size = context.vocab_size
        self.inner.begin(context)

    def propose(self, num_draft_tokens: int) -> TokenTree:
        """Pass on, then check the bounds of the tree."""
        tree = self.inner.propose(num_draft_tokens)
        assert 1 <= num_draft_tokens <= self.num_draft_tokens
        assert len(tree) <= num_draft_tokens, "more nodes than allowed"
        assert all(0 <= i < self._vocab_size for i in tree.token_ids), "an id out of range"
        assert tree.is_chain or self.makes_trees, "a tree of a drafter that makes chains"
        self._proposed = tree
        self.trees.append(tree)
        return tree

    def observe(self, step: Step) -> None:
        """Check that the step is what was proposed and verified, then pass it on."""
        tree, proposed = step.tree, self._proposed
        if proposed is None:
            assert len(tree) == 1, "a tree that nobody proposed"
        else:  # the engine may cut a draft, by depth or by cost
            known = {tuple(_path(proposed, node)) for node in range(len(proposed))}
            assert all(tuple(_path(tree, node)[1:]) in known for node in range(1, len(tree)))
        assert tree.is_path(step.accepted)
        accepted = [tree.token_ids[node] for node in step.accepted[1:]]
        assert accepted == list(step.token_ids)[: len(accepted)]
        if "logits" in self.needs:
            assert step.logits is not None
            assert step.logits.shape == (len(tree), self._vocab_size)
        self.observed.extend(step.token_ids)
        self._proposed = None
        self.inner.observe(step)

    def check_observed(self, token_ids: Sequence[int]) -> None:
        """Check that every token was observed exactly once."""
        assert self.observed == list(token_ids), "observe was not called once per step"


def _path(tree: TokenTree, node: int) -> list[int]:
    return [tree.token_ids[i] for i in tree.path_to(node)]


@dataclass
class Adversary:
    """Random trees, right and wrong tokens mixed; it knows the text, so that drafts hold.

    Attributes:
        text: The whole right text, prompt included; after its end everything is wrong.
        seed: Of the trees.
        makes_trees: Whether to propose trees, or chains only.
        truth: The share of right tokens among the nodes whose parent is right.
    """

    text: Sequence[int]
    seed: int = 0
    makes_trees: bool = True
    truth: float = 0.8

    needs: ClassVar[frozenset[str]] = frozenset()
    fixes_draws: ClassVar[bool] = False

    _rng: random.Random = field(default_factory=random.Random, init=False, repr=False)
    _length: int = field(default=0, init=False, repr=False)
    _vocab_size: int = field(default=1, init=False, repr=False)

    def begin(self, context: DraftContext) -> None:
        """Start again."""
        self._rng = random.Random(self.seed)
        self._length, self._vocab_size = len(context.token_ids), context.vocab_size

    def propose(self, num_draft_tokens: int) -> TokenTree:
        """Return a tree of any size, empty ones and equal siblings included."""
        size = self._rng.choice([0, 1, num_draft_tokens, num_draft_tokens])
        size = self._rng.randint(min(size, 1), size)
        token_ids: list[int] = []
        parents: list[int] = []
        depths: list[int] = []
        for node in range(size):
            parent = self._rng.randrange(-1, node) if self.makes_trees else node - 1
            if self.makes_trees and self._rng.random() < 0.6:
                parent = node - 1
            depth = depths[parent] + 1 if parent >= 0 else 0
            position = self._length + depth
            if self._rng.random() < self.truth and position < len(self.text):
                token_ids.append(self.text[position])
            else:
                token_ids.append(self._rng.randrange(self._vocab_size))
            parents.append(parent)
            depths.append(depth)
        return TokenTree(token_ids, parents)

    def observe(self, step: Step) -> None:
        """Count the tokens."""
        self._length += len(step.token_ids)


class AcceptsEverything:
    """A verifier that is wrong on purpose: it keeps the first path whatever the target says."""

    is_lossless: ClassVar[bool] = True
    is_sampler: ClassVar[bool | None] = None
    draws: ClassVar[str] = COUPLED
    needs_fixed_draws: ClassVar[bool] = False
    needs_hidden: ClassVar[bool] = False

    def select(self, tree: TokenTree, logits: TreeLogits, position: int) -> Selection:
        """Return the path that always takes the first child."""
        path = [0]
        for node, parent in enumerate(tree.parents):
            if parent == path[-1]:
                path.append(node)
        return Selection(tuple(path), int(logits[path[-1]].argmax()))


def random_prompt(rng: random.Random, length: int, vocab_size: int) -> list[int]:
    """Return a prompt with repeats, so that drafters which look back find something."""
    motif = [rng.randrange(1, vocab_size) for _ in range(max(1, length // 3))]
    ids = (motif * 4)[:length]
    for place in range(0, length, 5):
        ids[place] = rng.randrange(1, vocab_size)
    return ids


def check_filters(
    filter_one: Callable[[Tensor, Sequence[int], Sampling], Tensor],
    rng: torch.Generator,
    sampling: Sampling,
    *,
    vocab_size: int = 97,
) -> None:
    """Check that filtered logits equal those of transformers on random rows."""
    logits = 4 * torch.randn(5, vocab_size, generator=rng)
    seen = torch.randint(vocab_size, (5, 7), generator=rng)
    processors: Any = transformers_processors(sampling)
    expected = processors(seen, logits.clone())
    for row in range(len(logits)):
        found = filter_one(logits[row], seen[row].tolist(), sampling)
        torch.testing.assert_close(found, expected[row], rtol=1e-6, atol=1e-6)
