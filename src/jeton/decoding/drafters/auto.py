"""Automatic choice: the candidate whose drafts hold best on this text, or no draft at all.

Source: ours (docs/decoding.md). Candidates that are not used are tried without a forward: how much
of a draft would have held is known once the text has grown over it.
Differs from the source: nothing.
Cost: that of the chosen drafter, and one draft of each other candidate every `probe_every` steps;
close to nothing while no candidate pays.
"""

from dataclasses import dataclass, field, fields
from typing import ClassVar

from jeton.decoding.contract import DraftContext, Drafter, Step
from jeton.decoding.registry import DRAFTERS
from jeton.errors import ConfigError
from jeton.lm.tree import TokenTree

_MEMORY = 24.0  # trials that decide
_FIRST_GAIN = 1.0  # tokens per draft before anything was seen: try first, then judge
_FIRST_TRIALS = 3.0


@dataclass(slots=True)
class _Candidate:
    """A drafter, what it has not yet observed, and how its drafts did."""

    drafter: Drafter
    unseen: list[Step] = field(default_factory=list)
    trials: float = _FIRST_TRIALS
    gain: float = _FIRST_GAIN
    width: float = 4.0

    def propose(self, num_draft_tokens: int) -> TokenTree:
        """Let it see everything, then draft."""
        for step in self.unseen:
            self.drafter.observe(step)
        self.unseen.clear()
        return self.drafter.propose(num_draft_tokens)

    def learn(self, gain: float) -> None:
        """Count the tokens of a draft that held, or would have."""
        self.trials = min(self.trials + 1.0, _MEMORY)
        self.gain += (gain - self.gain) / self.trials


@dataclass(slots=True)
class Auto:
    """Options of the drafter.

    Attributes:
        drafters: Candidates, joined by "+"; none that needs a model.
        store: Path of a datastore, for those of them that read one.
        node_cost: Cost of one more node in a forward, in forwards of one token.
        overhead: Cost of a step with a draft besides its nodes, in forwards of one token.
        probe_every: Steps between two trials of the candidates that are not used.
    """

    drafters: str = "lookahead+prompt_lookup"
    store: str = ""
    node_cost: float = 0.02
    overhead: float = 0.05
    probe_every: int = 12

    needs: ClassVar[frozenset[str]] = frozenset({"logits"})
    makes_trees: ClassVar[bool] = True
    fixes_draws: ClassVar[bool] = False

    _names: list[str] = field(default_factory=list, init=False, repr=False)
    _parts: list[_Candidate] = field(default_factory=list, init=False, repr=False)
    _text: list[int] = field(default_factory=list, init=False, repr=False)
    _trials: list[tuple[int, int, TokenTree]] = field(default_factory=list, init=False, repr=False)
    _num_steps: int = field(default=0, init=False, repr=False)
    _used: int = field(default=-1, init=False, repr=False)

    def __post_init__(self) -> None:
        self._names = [name.strip() for name in self.drafters.split("+")]
        if {"auto", "merge"} & {*self._names} or not all(self._names):
            raise ConfigError(f"auto needs names of other drafters, got {self.drafters!r}")
        if self.node_cost < 0 or self.overhead < 0 or self.probe_every < 1:
            raise ConfigError("node_cost and overhead must be 0 or more, probe_every 1 or more")
        self._create()
        unmet = sorted({n for part in self._parts for n in part.drafter.needs} - self.needs)
        if unmet:
            raise ConfigError(
                f"auto cannot choose among {self.drafters}: one of them needs a {unmet[0]}",
                hint="name drafters that need no model",
            )

    def _create(self) -> None:
        self._parts = []
        for name in self._names:
            takes_store = any(option.name == "store" for option in fields(DRAFTERS.load(name)))
            options = {"store": self.store} if takes_store and self.store else {}
            self._parts.append(_Candidate(DRAFTERS.create(name, options)))

    def begin(self, context: DraftContext) -> None:
        """Begin each candidate; nothing is known about the new text."""
        self._parts = [_Candidate(part.drafter) for part in self._parts]
        for part in self._parts:
            part.drafter.begin(context)
        self._text = []
        self._trials.clear()
        self._num_steps, self._used = 0, -1

    def propose(self, num_draft_tokens: int) -> TokenTree:
        """Return the draft of the candidate that pays best; nothing where none pays."""
        self._settle()
        self._num_steps += 1
        is_probe = self._num_steps <= 2 or self._num_steps % self.probe_every == 0
        values = [self._value(part) for part in self._parts]
        best = max(range(len(values)), key=lambda index: (values[index], -index))
        self._used = best if values[best] > 1.0 else -1
        chosen = TokenTree([], [], None, [])
        for index, part in enumerate(self._parts):
            if index != self._used and not is_probe:
                continue
            tree = part.propose(num_draft_tokens)
            self._trials.append((len(self._text), index, tree))
            if index == self._used:
                chosen = TokenTree(tree.token_ids, tree.parents, tree.logq, [index] * len(tree))
        return chosen

    def observe(self, step: Step) -> None:
        """Note the step for every candidate; each reads its notes when it drafts next."""
        self._text.extend(step.token_ids)
        for part in self._parts:
            part.unseen.append(step)
        if self._used >= 0:
            part = self._parts[self._used]
            part.width += (len(step.tree) - 1 - part.width) / _MEMORY

    def _value(self, part: _Candidate) -> float:
        """Return the expected speed in multiples of plain decoding."""
        return (1.0 + part.gain) / (1.0 + self.overhead + self.node_cost * part.width)

    def _settle(self) -> None:
        """Judge the drafts over which the text has grown."""
        waiting = []
        for start, index, tree in self._trials:
            path = self._text[start:]
            held = _held(tree, path)
            # What holds to the end of the text so far might hold longer.
            if held == len(path) and held <= max(tree.depths, default=-1):
                waiting.append((start, index, tree))
            else:
                self._parts[index].learn(float(held))
        self._trials = waiting


def _held(tree: TokenTree, token_ids: list[int]) -> int:
    """Return how many of the tokens are a path of the tree."""
    node, held = -1, 0
    for child, parent in enumerate(tree.parents):
        if held == len(token_ids):
            break
        if parent == node and tree.token_ids[child] == token_ids[held]:
            node, held = child, held + 1
    return held
