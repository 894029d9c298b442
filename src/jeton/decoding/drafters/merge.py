"""Merge: several drafters' trees as one; equal paths are drafted once.

Source: the tree fusion of RASD (2025), https://arxiv.org/abs/2503.03434, section 3.3: longest
common prefixes of the trees become one path.
Differs from the source: any drafters; which nodes stay within the budget is decided by the share
of each drafter's guesses that held so far, counted while decoding, by level of its own confidence.
Cost: that of its drafters.
"""

from dataclasses import dataclass, field, fields
from typing import ClassVar

from jeton.decoding.calibration import NEUTRAL_LOGQ, Calibration
from jeton.decoding.contract import DraftContext, Drafter, Step
from jeton.decoding.registry import DRAFTERS
from jeton.errors import ConfigError
from jeton.lm.tree import TokenTree


@dataclass(slots=True)
class Merge:
    """Options of the drafter.

    Attributes:
        drafters: Names joined by "+".
        store: Path of a datastore, for those of them that read one.
        weights: Folder of trained weights, for those of them that have some; empty for the model's
            own.
    """

    drafters: str = "prompt_lookup+token_recycling"
    store: str = ""
    weights: str = ""

    needs: ClassVar[frozenset[str]] = frozenset({"logits", "hidden"})
    makes_trees: ClassVar[bool] = True
    fixes_draws: ClassVar[bool] = False

    _parts: list[Drafter] = field(default_factory=list, init=False, repr=False)
    _calibration: Calibration = field(default_factory=Calibration, init=False, repr=False)

    def __post_init__(self) -> None:
        names = [name.strip() for name in self.drafters.split("+")]
        if "merge" in names or not all(names):
            raise ConfigError(f"merge needs names of other drafters, got {self.drafters!r}")
        self._parts = [self._create(name) for name in names]
        met = {*self.needs, "weights"}
        unmet = sorted({need for part in self._parts for need in part.needs} - met)
        if unmet:
            raise ConfigError(
                f"merge cannot join {self.drafters}: one of them needs a {unmet[0]}",
                hint="join drafters that need no model",
            )

    def _create(self, name: str) -> Drafter:
        taken = {option.name for option in fields(DRAFTERS.load(name))}
        given = {"store": self.store, "weights": self.weights}
        options = {key: value for key, value in given.items() if value and key in taken}
        made: Drafter = DRAFTERS.create(name, options)
        return made

    def begin(self, context: DraftContext) -> None:
        """Begin each drafter."""
        for part in self._parts:
            part.begin(context)

    def propose(self, num_draft_tokens: int) -> TokenTree:
        """Return the most promising nodes of all drafts."""
        trees = []
        for source, part in enumerate(self._parts):
            tree = part.propose(num_draft_tokens)
            logq = tree.logq or [NEUTRAL_LOGQ] * len(tree)
            trees.append(TokenTree(tree.token_ids, tree.parents, logq, [source] * len(tree)))
        # The more promising guess goes first: equal nodes keep its figures.
        trees.sort(key=lambda tree: -max(self._calibration.survival(tree), default=0.0))
        merged = TokenTree.merge(trees)
        return merged.prune(num_draft_tokens, self._calibration.survival(merged))

    def observe(self, step: Step) -> None:
        """Count what held and pass the step on."""
        self._calibration.observe(step)
        for part in self._parts:
            part.observe(step)
