"""Drafters propose token trees, verifiers decide how far they hold; the engine is the only loop.

Laws (tested over every registered pair, see `jeton.testing.decoding`):
1. With a lossless verifier the output is that of plain decoding in float32, whatever the drafter
   proposes. Greedy and coupled verifiers give the same token ids, the others the same law.
2. A drafter never sees what it could not know: only tokens and figures of finished steps.
3. `observe` is called once per step, with what it added; `propose` leaves the model as it is.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Protocol

from torch import Tensor

from jeton.decoding.filters import TreeLogits
from jeton.decoding.sampling import Sampling
from jeton.decoding.stats import DecodingStats
from jeton.lm.tree import TokenTree

__all__ = ["DecodingStats", "Sampling", "TreeLogits"]

# draft_model: of the target's vocabulary; any_draft_model: of any; weights: trained for a target
NEEDS = frozenset({"logits", "hidden", "draft_model", "any_draft_model", "weights"})

# How a verifier wants siblings to be drawn from a drafter's distribution.
COUPLED = "coupled"  # not at random: the best guesses, noise of the position included
INDEPENDENT = "independent"  # with replacement
DISTINCT = "distinct"  # without replacement


@dataclass(frozen=True, slots=True)
class Law:
    """How the children of one node were drawn.

    Attributes:
        probabilities: Of the first draw, shape (vocab,), float64.
        drawn: The child nodes in the order of the draws, with repeats.
    """

    probabilities: Tensor
    drawn: tuple[int, ...]


@dataclass(frozen=True)
class Draft(TokenTree):
    """A token tree with the laws by which its children were drawn.

    Attributes:
        laws: By parent node, -1 for the context's end; drawn children must not be pruned.
    """

    laws: Mapping[int, Law] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class DraftContext:
    """What a drafter starts from.

    Attributes:
        token_ids: The prompt.
        vocab_size: Ids that may be proposed.
        sampling: How the target draws.
        draft_model: A `LanguageModel`, for drafters that need one.
        target: The target's `Runner`, to read its weights; never run by drafters.
        draws: How the verifier wants siblings to be drawn.
        vocabulary: The target's `Vocabulary`.
    """

    token_ids: Sequence[int]
    vocab_size: int
    sampling: Sampling
    draft_model: Any = None
    target: Any = None
    draws: str = COUPLED
    vocabulary: Any = None


@dataclass(frozen=True, slots=True)
class Step:
    """What one verification showed.

    Attributes:
        tree: The root (the last token of the context) and the draft below it.
        accepted: Nodes of the accepted path, the root first.
        token_ids: Tokens that the step added to the output.
        logits: Shape (nodes, vocab), unfiltered, when needed.
        hidden: Shape (nodes, hidden), when needed; None after the prompt.
    """

    tree: TokenTree
    accepted: tuple[int, ...]
    token_ids: tuple[int, ...]
    logits: Tensor | None = None
    hidden: Tensor | None = None


class Drafter(Protocol):
    """Proposes continuations; knows nothing about how they are judged.

    `fixes_draws`: when asked for draws it draws every child, and decides first how many.
    """

    needs: ClassVar[frozenset[str]]
    makes_trees: ClassVar[bool]
    fixes_draws: ClassVar[bool]

    def begin(self, context: DraftContext) -> None:
        """Forget the last text and start with a prompt."""
        ...

    def propose(self, num_draft_tokens: int) -> TokenTree:
        """Return at most `num_draft_tokens` nodes that continue the context; may be empty."""
        ...

    def observe(self, step: Step) -> None:
        """Learn from a finished step."""
        ...


@dataclass(frozen=True, slots=True)
class Selection:
    """A verifier's decision: the accepted nodes, root first, and the token after them."""

    path: tuple[int, ...]
    next_token: int


class Verifier(Protocol):
    """Decides which path of a verified tree is kept, and draws one token after it.

    `is_sampler` is None where the temperature has no use. `draws`: how it wants siblings to be
    drawn; without `needs_fixed_draws` it takes undrawn trees too. `needs_hidden`: of the logits.
    """

    is_lossless: ClassVar[bool]
    is_sampler: ClassVar[bool | None]
    draws: ClassVar[str]
    needs_fixed_draws: ClassVar[bool]
    needs_hidden: ClassVar[bool]

    def select(self, tree: TokenTree, logits: TreeLogits, position: int) -> Selection:
        """Return the decision for a tree.

        Args:
            tree: Node 0 is the root.
            logits: Of the target after each node; filtered where the sampling has filters.
            position: Absolute position of the first token after the root.
        """
        ...
