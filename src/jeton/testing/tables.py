"""Exact laws of speculative sampling: every random decision of the real code is enumerated.

A table stands for the target, a second one for the drafter; `AllChances` runs the loop once per
sequence of decisions and weighs each with its probability.
"""

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any, ClassVar

import torch
from torch import Tensor

from jeton.decoding.contract import (
    COUPLED,
    DISTINCT,
    Draft,
    DraftContext,
    Drafter,
    Law,
    Sampling,
    Step,
    Verifier,
)
from jeton.decoding.engine import DecodingLoop
from jeton.lm.runner import Verified
from jeton.lm.tree import TokenTree


class AllChances:
    """A source of decisions that takes every possible one in turn.

    Example:
        >>> chances = AllChances()
        >>> [(chances.accepts(0.25), weight()) for weight in chances.runs()]
        [(True, 0.25), (False, 0.75)]
    """

    def __init__(self) -> None:
        self._script: list[tuple[list[float], int]] = []
        self._place = 0

    def runs(self) -> Iterator[Callable[[], float]]:
        """Yield once per sequence of decisions a function that gives its probability."""
        self._script = []
        while True:
            self._place = 0
            yield self._weight
            while self._script:
                weights, taken = self._script.pop()
                following = _next_possible(weights, taken + 1)
                if following is not None:
                    self._script.append((weights, following))
                    break
            else:
                return

    def at(self, position: int) -> None:
        """Nothing: positions have no noise of their own here."""

    def accepts(self, probability: float) -> bool:
        """Take True first, then False."""
        return self._take([probability, 1.0 - probability]) == 0

    def draws(self, weights: Tensor) -> int:
        """Take each index of positive weight in turn."""
        total = float(weights.sum())
        return self._take([weight / total for weight in weights.tolist()])

    def _take(self, weights: list[float]) -> int:
        if self._place == len(self._script):
            first = _next_possible(weights, 0)
            assert first is not None, "a decision without a possible outcome"
            self._script.append((weights, first))
        taken = self._script[self._place][1]
        self._place += 1
        return taken

    def _weight(self) -> float:
        product = 1.0
        for weights, taken in self._script[: self._place]:
            product *= weights[taken]
        return product


def _next_possible(weights: list[float], start: int) -> int | None:
    for index in range(start, len(weights)):
        if weights[index] > 0:
            return index
    return None


@dataclass
class TableModel:
    """A language model by table: the law of a token depends on the token before it.

    Attributes:
        laws: Shape (vocab, vocab), float64; row i is the law after token i.
        max_length: As of a runner.
        supports_trees: As of a runner.
        room: As of a runner.
    """

    laws: Tensor
    max_length: int = 64
    supports_trees: bool = True
    room: int | None = None
    _ids: list[int] = field(default_factory=list, init=False)
    _tree: TokenTree | None = field(default=None, init=False)

    def reset(self) -> None:
        """Forget everything."""
        self._ids = []

    def prefill(self, token_ids: Sequence[int]) -> Tensor:
        """Append tokens; return the logits after the last."""
        self._ids.extend(token_ids)
        return self.laws[self._ids[-1]].log()

    def verify(self, tree: TokenTree, *, hidden: bool = False) -> Verified:
        """Return the logits after each node."""
        self._tree = tree
        return Verified(tree, self.laws[tree.token_ids].log(), None)

    def commit(self, path: Sequence[int]) -> None:
        """Keep a path."""
        assert self._tree is not None
        self._ids.extend(self._tree.token_ids[node] for node in path)

    def string_law(self, first: int, length: int) -> dict[tuple[int, ...], float]:
        """Return the probability of every string after a token."""
        found = {}
        for string in itertools.product(range(len(self.laws)), repeat=length):
            probability, before = 1.0, first
            for token in string:
                probability *= float(self.laws[before, token])
                before = token
            if probability > 0:
                found[string] = probability
        return found


@dataclass
class TableDrafter:
    """Draws a tree from a table as the verifier asks.

    Attributes:
        laws: Shape (vocab, vocab), float64.
        chance: Of the draws.
        branching: Draws per node at each level.
        is_drawn: False proposes the first tokens instead, without laws.
        num_drafts: Drafts per text; later steps are plain, which keeps the enumeration small.
    """

    laws: Tensor
    chance: Any
    branching: tuple[int, ...] = (2, 1)
    is_drawn: bool = True
    num_drafts: int = 1

    needs: ClassVar[frozenset[str]] = frozenset()
    makes_trees: ClassVar[bool] = True
    fixes_draws: ClassVar[bool] = True

    _last: int = field(default=0, init=False)
    _left: int = field(default=0, init=False)
    _draws: str = field(default=COUPLED, init=False)

    def begin(self, context: DraftContext) -> None:
        """Start after a prompt."""
        self._last, self._draws = context.token_ids[-1], context.draws
        self._left = self.num_drafts

    def propose(self, num_draft_tokens: int) -> TokenTree:
        """Return the drawn tree."""
        token_ids: list[int] = []
        parents: list[int] = []
        laws: dict[int, Law] = {}
        level = [-1]
        self._left -= 1
        for factor in self.branching if self._left >= 0 else ():
            below: list[int] = []
            for node in level:
                law = self.laws[token_ids[node] if node >= 0 else self._last]
                left, nodes, drawn = law.clone(), {}, []
                for turn in range(factor):
                    if float(left.sum()) <= 0 or len(token_ids) == num_draft_tokens:
                        break
                    token = self.chance.draws(left) if self.is_drawn else turn
                    if token not in nodes:
                        nodes[token] = len(token_ids)
                        token_ids.append(token)
                        parents.append(node)
                    drawn.append(nodes[token])
                    if self._draws == DISTINCT:
                        left[token] = 0.0
                if self.is_drawn and drawn:
                    laws[node] = Law(law, tuple(drawn))
                below.extend(nodes.values())
            level = below
        return Draft(token_ids, parents, None, None, laws)

    def observe(self, step: Step) -> None:
        """Follow the text."""
        self._last = step.token_ids[-1]


def output_law(
    target: TableModel,
    make_drafter: Callable[[AllChances], Drafter],
    make_verifier: Callable[[AllChances], Verifier],
    *,
    length: int,
    first: int = 0,
    num_draft_tokens: int = 8,
) -> dict[tuple[int, ...], float]:
    """Return the exact probability of every output string of the real decoding loop."""
    chances = AllChances()
    size = len(target.laws)
    lm: Any = SimpleNamespace(
        model=None, name="table", vocabulary=SimpleNamespace(vocab_size=size, tokens=[])
    )
    found: dict[tuple[int, ...], float] = {}
    runner: Any = target
    loop = DecodingLoop(
        lm,
        drafter=make_drafter(chances),
        verifier=make_verifier(chances),
        sampling=Sampling(temperature=1.0),
        num_draft_tokens=num_draft_tokens,
        runner=runner,
    )
    for weight in chances.runs():
        string = tuple(i for new in loop.run([first], length) for i in new)
        found[string] = found.get(string, 0.0) + weight()
    return found


def total_variation(
    found: dict[tuple[int, ...], float], expected: dict[tuple[int, ...], float]
) -> float:
    """Return half the summed difference of two laws."""
    strings = sorted({*found, *expected})
    return sum(abs(found.get(s, 0.0) - expected.get(s, 0.0)) for s in strings) / 2


def random_laws(
    vocab_size: int, generator: torch.Generator, *, sharpness: float = 1.0, holes: bool = False
) -> Tensor:
    """Return random rows of a table, shape (vocab, vocab), float64; `holes` puts zeros in them."""
    logits = torch.randn(vocab_size, vocab_size, generator=generator, dtype=torch.float64)
    laws = (sharpness * logits).softmax(-1)
    if holes:
        laws[torch.arange(vocab_size), (torch.arange(vocab_size) + 1) % vocab_size] = 0.0
        laws = laws / laws.sum(-1, keepdim=True)
    return laws
