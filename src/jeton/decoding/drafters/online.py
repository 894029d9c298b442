"""Online Speculative Decoding: a draft model that keeps learning from what the target corrects.

Source: Liu et al. 2023, https://arxiv.org/abs/2310.07177, Algorithm 1: the target's distribution at
the drafted positions is kept in a buffer, and every few steps the draft model is trained on it.
Differs from the source: training happens in the decoding loop, on the last `window` tokens of the
text, every place of which the target has scored; the draft model is copied first, so that the
caller's stays as it is. What was learned outlives a text.
Cost: that of `draft_model`, and one training step of the draft model every `every` steps.
"""

import copy
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from jeton.decoding.contract import DraftContext, Step
from jeton.decoding.draft_state import DraftState
from jeton.errors import ConfigError
from jeton.lm.lean_check import PLAN
from jeton.lm.tree import TokenTree


@dataclass(slots=True)
class Online:
    """Options of the drafter.

    Attributes:
        lr: Learning rate; 0 learns nothing.
        every: Steps of decoding between two steps of training.
        window: Tokens of the text that one step of training reads.
        min_confidence: Stop before a token whose most likely value has a lower probability.
    """

    lr: float = 1e-3
    every: int = 8
    window: int = 64
    min_confidence: float = 0.4

    needs: ClassVar[frozenset[str]] = frozenset({"draft_model", "logits"})
    makes_trees: ClassVar[bool] = False
    fixes_draws: ClassVar[bool] = True

    _state: DraftState | None = field(default=None, init=False, repr=False)
    _draft: "_Learning | None" = field(default=None, init=False, repr=False)
    _teacher: dict[int, Tensor] = field(default_factory=dict, init=False, repr=False)
    _steps: int = field(default=0, init=False, repr=False)

    def __post_init__(self) -> None:
        if self.lr < 0 or self.every < 1 or self.window < 1:
            raise ConfigError(
                "online needs lr of at least 0, every and window of at least 1, got "
                f"{self.lr}, {self.every} and {self.window}"
            )
        if not 0 <= self.min_confidence <= 1:
            raise ConfigError(f"min_confidence must be in [0, 1], got {self.min_confidence}")

    def begin(self, context: DraftContext) -> None:
        """Start with an empty cache and what was learned before."""
        given = context.draft_model
        if self._draft is None or self._draft.given is not given:
            self._draft = _Learning(given, self.lr)
        self._state = DraftState(replace(context, draft_model=self._draft))
        self._teacher.clear()

    def propose(self, num_draft_tokens: int) -> TokenTree:
        """Return the chain that the draft model writes."""
        assert self._state is not None, "begin comes first"
        return self._state.chain(
            num_draft_tokens, lambda law: float(law.max()) >= self.min_confidence
        )

    def observe(self, step: Step) -> None:
        """Keep what the target said after each accepted node; learn when it is time."""
        state, draft = self._state, self._draft
        assert state is not None
        assert draft is not None
        assert step.logits is not None
        last = len(state.token_ids) - 1  # position of the root
        for depth, node in enumerate(step.accepted):
            self._teacher[last + depth] = step.logits[node]
        state.observe(step)
        self._steps += 1
        if self.lr and self._steps % self.every == 0:
            self._learn(state, draft)

    def _learn(self, state: DraftState, draft: "_Learning") -> None:
        """Take one training step; the cache holds states of the old weights and is dropped."""
        end = min(len(state.token_ids), state.runner.max_length)
        start = max(0, end - self.window)
        places = [place for place in sorted(self._teacher) if start <= place < end]
        if places:
            rows = torch.stack([self._teacher[place] for place in places])
            ids = torch.tensor([state.token_ids[start:end]])
            draft.step(ids, [place - start for place in places], rows)
            state.runner.reset()
        for place in [place for place in self._teacher if place < start]:
            del self._teacher[place]


class _Learning:
    """A copy of a draft model in float32, with its optimizer."""

    def __init__(self, given: Any, lr: float) -> None:
        self.given, self.name = given, given.name
        self.model: Any = copy.deepcopy(given.model).float()
        vars(self.model).pop(PLAN, None)  # packed weights would not follow the training
        for module in self.model.modules():
            if isinstance(module, nn.Linear):
                vars(module).pop("forward", None)
        self.model.eval()
        self.model.requires_grad_(True)
        self._optimizer = torch.optim.AdamW(
            self.model.parameters(), lr=lr, betas=(0.9, 0.98), weight_decay=0.0
        )

    def step(self, ids: Tensor, places: list[int], teacher: Tensor) -> None:
        """Move towards the target's distribution at some places of a text.

        Args:
            ids: Shape (1, seq).
            places: Positions in `ids`.
            teacher: The target's logits there, shape (places, vocab).
        """
        with torch.inference_mode(False), torch.enable_grad():
            shares = teacher.clone().to(self.model.device).float().softmax(-1)
            logits = self.model(input_ids=ids.to(self.model.device), use_cache=False).logits
            mine = logits[0, places, : shares.shape[-1]].log_softmax(-1)
            loss = -(shares * mine).sum(-1).mean()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
            self._optimizer.step()
            self._optimizer.zero_grad(set_to_none=True)
