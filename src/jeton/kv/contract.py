"""A policy decides which context tokens stay in the cache (evict) or are attended (select).

Laws (tested over every registered policy, see `jeton.testing.kv`):
1. While the context fits the budget the output has the bits of the dense model.
2. An evicting policy keeps `budget` tokens per head (on average over the heads where it divides
   them), its sinks and its recent tokens among them; memory is budget + stride. A selecting policy
   attends to at most `budget` earlier tokens when it selects, sinks and recent ones among them.
3. Scores of grouped heads equal those of explicitly repeated keys. A left-padded batch gives what
   its texts give alone; a prompt read in chunks gives what one forward gives.
4. Greedy decoding under a policy gives the same tokens with and without speculation, for chains
   and trees; a rejected draft leaves the cache's bytes as they were. Eviction happens when tokens
   are committed, never inside a draft.
5. A seed decides everything that is random.
"""

from abc import ABC
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Any, ClassVar

from torch import Tensor
from transformers import PreTrainedModel

from jeton.errors import ConfigError

EVICT, SELECT = "evict", "select"
NEEDS = frozenset({"mass", "queries"})


@dataclass(frozen=True, slots=True)
class Rows:
    """What one layer holds when a policy is asked.

    Attributes:
        keys: With their rotary positions, shape (batch, kv_heads, rows, head_dim).
        values: Shape (batch, kv_heads, rows, value_head_dim).
        positions: In the text, shape (batch, kv_heads, rows), int64; negative for padding.
        lengths: Tokens of each text so far, padding not counted, shape (batch,).
        mass: Accumulated attention, shape (batch, kv_heads, rows), for policies that need it.
        queries: The last `window` ones, shape (batch, heads, window, head_dim), for policies
            that need them; those before the text are zero.
        scaling: Of the attention logits.
        softcap: Of the attention logits, or None.
        layer: Index of the layer.
        memo: Scratch of one layer and text for what follows from the committed rows alone.
    """

    keys: Tensor
    values: Tensor
    positions: Tensor
    lengths: Tensor
    mass: Tensor | None = None
    queries: Tensor | None = None
    scaling: float = 1.0
    softcap: float | None = None
    layer: int = 0
    memo: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Selection:
    """Earlier tokens to attend to: some, and all from `since` on.

    Attributes:
        columns: Indices of rows below `since`, increasing, shape (kv_heads, chosen).
        since: The row from which on all are attended.
    """

    columns: Tensor
    since: int


@dataclass(frozen=True, slots=True)
class Choice:
    """What a selecting policy decided for one token.

    Attributes:
        selection: None attends to everything.
        state: Handed back at the next token; never changed in place.
        is_full: Whether all keys were read for it.
    """

    selection: Selection | None
    state: Any
    is_full: bool


@dataclass(frozen=True, slots=True)
class CachePolicy(ABC):
    """What all policies share.

    Attributes:
        budget: Tokens per head and layer that are kept, or attended to, in all.
        sinks: First tokens of a text that are always among them.
        recent: Last tokens that are always among them.
    """

    kind: ClassVar[str]
    needs: ClassVar[frozenset[str]] = frozenset()

    budget: int = 1024
    sinks: int = 4
    recent: int = 64

    def __post_init__(self) -> None:
        name = type(self).__name__
        if self.sinks < 0 or self.recent < 1:
            raise ConfigError(
                f"{name} needs sinks >= 0 and recent >= 1, got {self.sinks} and {self.recent}"
            )
        if self.budget < self.sinks + self.recent:
            raise ConfigError(
                f"{name} has a budget of {self.budget} tokens, of which {self.sinks} sinks and "
                f"{self.recent} recent ones are always kept",
                hint=f"take a budget of at least {self.sinks + self.recent}, or fewer of those",
            )

    def attached(self, model: PreTrainedModel) -> AbstractContextManager[None]:
        """Enter what the policy brings to the model; the seat of trained methods' weights."""
        return nullcontext()
