"""Drafters propose token trees, verifiers decide how far they hold; the engine is the only loop.

Laws (tested over every registered pair, see `jeton.testing.decoding`):
1. With a lossless verifier the output is that of plain decoding, whatever the drafter proposes:
   float32, any tree, empty proposals and end-of-text inside a draft included.
2. A drafter never sees what it could not know: only tokens and figures of finished steps.
3. `observe` is called once per step, with what was verified; `propose` has no side effect on the
   model.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Protocol

from torch import Tensor

from jeton.errors import ConfigError
from jeton.lm.tree import TokenTree

NEEDS = frozenset({"logits", "hidden", "draft_model"})


@dataclass(frozen=True, slots=True)
class Sampling:
    """How the next token is drawn from the target's logits.

    Attributes:
        temperature: 0 is greedy.
        top_k: Keep the k most likely tokens; 0 keeps all.
        top_p: Keep the smallest set with this probability, in (0, 1].
        min_p: Drop tokens less likely than this share of the most likely one, in [0, 1).
        repetition_penalty: Divide (multiply) positive (negative) logits of tokens seen before.
        seed: Of the noise; the same seed gives the same text with any drafter.
    """

    temperature: float = 0.0
    top_k: int = 0
    top_p: float = 1.0
    min_p: float = 0.0
    repetition_penalty: float = 1.0
    seed: int = 0

    def __post_init__(self) -> None:
        allowed = {
            "temperature": (self.temperature >= 0, "at least 0"),
            "top_k": (self.top_k >= 0, "at least 0"),
            "top_p": (0 < self.top_p <= 1, "in (0, 1]"),
            "min_p": (0 <= self.min_p < 1, "in [0, 1)"),
            "repetition_penalty": (self.repetition_penalty > 0, "above 0"),
        }
        for name, (is_fine, text) in allowed.items():
            if not is_fine:
                raise ConfigError(f"{name} must be {text}, got {getattr(self, name)}")

    @property
    def is_plain_greedy(self) -> bool:
        """Whether the next token is the argmax of the raw logits."""
        return self.temperature == 0 and self.repetition_penalty == 1.0


@dataclass(frozen=True, slots=True)
class DraftContext:
    """What a drafter starts from.

    Attributes:
        token_ids: The prompt.
        vocab_size: Ids that may be proposed.
        sampling: How the target draws.
        draft_model: A `LanguageModel`, for drafters that need one.
        target: The target's `Runner`, for drafters that read its weights; never run by them.
    """

    token_ids: Sequence[int]
    vocab_size: int
    sampling: Sampling
    draft_model: Any = None
    target: Any = None


@dataclass(frozen=True, slots=True)
class Step:
    """What one verification showed.

    Attributes:
        tree: The root (the last token of the context) and the draft below it.
        accepted: Nodes of the accepted path, the root first.
        token_ids: Tokens that the step added to the output, the drawn one last.
        logits: Shape (nodes, num_embeddings), for drafters that need logits.
        hidden: Shape (nodes, hidden), for drafters that need them.
    """

    tree: TokenTree
    accepted: tuple[int, ...]
    token_ids: tuple[int, ...]
    logits: Tensor | None = None
    hidden: Tensor | None = None


class Drafter(Protocol):
    """Proposes continuations; knows nothing about how they are judged."""

    needs: ClassVar[frozenset[str]]
    makes_trees: ClassVar[bool]

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
    """A verifier's decision: the accepted nodes, root first, and the token drawn after them."""

    path: tuple[int, ...]
    next_token: int


class Verifier(Protocol):
    """Decides which path of a verified tree is kept, and draws one token after it."""

    is_lossless: ClassVar[bool]

    def select(self, tree: TokenTree, logits: Tensor, position: int) -> Selection:
        """Return the decision for a tree whose node 0 is the root.

        Args:
            tree: Root and draft.
            logits: Shape (nodes, num_embeddings), float32, after the sampling's filters.
            position: Absolute position of the first token after the root.
        """
        ...


@dataclass(slots=True)
class DecodingStats:
    """What a generation did; times in seconds of wall clock."""

    num_prompt_tokens: int = 0
    num_tokens: int = 0
    num_steps: int = 0
    num_proposed: int = 0
    num_accepted: int = 0
    prefill_s: float = 0.0
    draft_s: float = 0.0
    verify_s: float = 0.0
    accepted_by_depth: list[int] = field(default_factory=list)
    proposed_by_depth: list[int] = field(default_factory=list)

    @property
    def tokens_per_step(self) -> float:
        """Tokens gained per forward; 1 without drafting."""
        return self.num_tokens / self.num_steps if self.num_steps else 0.0

    @property
    def acceptance_rate(self) -> float:
        """Accepted over proposed draft tokens."""
        return self.num_accepted / self.num_proposed if self.num_proposed else 0.0
