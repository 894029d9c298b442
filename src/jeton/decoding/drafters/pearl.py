"""PEARL: the draft model goes on writing while the target verifies, so that neither waits.

Source: Liu et al. 2024, https://arxiv.org/abs/2408.11850, section 4: pre-verify (the first token of
a new draft is verified while the others are written) and post-verify (while a draft is verified,
its continuation is written, in the hope that all of it holds).
Differs from the source: the draft length adapts by these two alone; how many tokens are written
during a verification is a number (`window`), not what the clock allows, so that runs can be
repeated. Drafts are best guesses, also under verifiers that would take random draws.
Cost: one forward of the draft model per drafted token, in a second thread.
"""

from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import ClassVar

from jeton.decoding.contract import COUPLED, Draft, DraftContext, Step
from jeton.decoding.draft_state import DraftState
from jeton.errors import ConfigError
from jeton.lm.tree import TokenTree


@dataclass(slots=True)
class PEARL:
    """Options of the drafter.

    Attributes:
        window: Tokens that the draft model writes during one verification: the target's time per
            step over the draft model's.
    """

    window: int = 4

    needs: ClassVar[frozenset[str]] = frozenset({"draft_model"})
    makes_trees: ClassVar[bool] = False
    fixes_draws: ClassVar[bool] = False

    _state: DraftState | None = field(default=None, init=False, repr=False)
    _thread: ThreadPoolExecutor | None = field(default=None, init=False, repr=False)
    _ahead: "Future[Draft] | None" = field(default=None, init=False, repr=False)
    _proposed: list[int] = field(default_factory=list, init=False, repr=False)
    _ready: list[int] = field(default_factory=list, init=False, repr=False)

    def __post_init__(self) -> None:
        if self.window < 1:
            raise ConfigError(f"window must be at least 1, got {self.window}")

    def begin(self, context: DraftContext) -> None:
        """Start with an empty cache."""
        self._join()
        self._state = DraftState(replace(context, draws=COUPLED))
        self._proposed, self._ready = [], []

    def propose(self, num_draft_tokens: int) -> TokenTree:
        """Return what is ready, or one token; the continuation is written from now on."""
        state = self._state
        assert state is not None, "begin comes first"
        if not self._ready:  # pre-verify: the first token goes to the target at once
            self._ready = list(state.chain(1, lambda law: True).token_ids)
        self._proposed = self._ready[:num_draft_tokens]
        self._write_ahead()
        return TokenTree.chain(self._proposed)

    def _write_ahead(self) -> None:
        """Let the thread continue the proposed draft, past the token that will follow it."""
        state, proposed = self._state, list(self._proposed)
        assert state is not None
        if self._thread is None:
            self._thread = ThreadPoolExecutor(1, thread_name_prefix="pearl")
        length = len(state.token_ids)

        def write() -> Draft:
            state.token_ids.extend(proposed)
            try:
                return state.chain(self.window + 1, lambda law: True)
            finally:
                del state.token_ids[length:]

        self._ahead = self._thread.submit(write)

    def _join(self) -> list[int]:
        """Return what was written during the verification."""
        if self._ahead is None:
            return []
        ahead, self._ahead = self._ahead, None
        return list(ahead.result().token_ids)

    def observe(self, step: Step) -> None:
        """Keep the continuation when all of the draft and the token after it came as expected."""
        assert self._state is not None
        expected = [*self._proposed, *self._join()]
        self._state.observe(step)
        new = list(step.token_ids)
        kept = len(self._proposed) and len(new) <= len(expected) and expected[: len(new)] == new
        # post-verify: what stands behind the verified tokens is the next draft
        self._ready = expected[len(new) :] if kept else []
        self._proposed = []
