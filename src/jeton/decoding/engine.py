"""The one decoding loop: draft, verify in one forward, commit, observe."""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from torch import Tensor

from jeton.decoding.contract import (
    DecodingStats,
    DraftContext,
    Drafter,
    Sampling,
    Step,
    Verifier,
)
from jeton.decoding.filters import filter_rows
from jeton.decoding.prompt import prompt_ids, stop_token_ids
from jeton.decoding.registry import DRAFTERS
from jeton.decoding.verifiers.greedy import Greedy
from jeton.decoding.verifiers.seed_exact import SeedExact
from jeton.errors import ConfigError, UnsupportedModelError
from jeton.lm.load import LanguageModel
from jeton.lm.runner import Runner
from jeton.lm.tree import TokenTree

NO_DRAFT = TokenTree.chain([])


@dataclass(frozen=True, slots=True)
class Generation:
    """A finished generation.

    Attributes:
        token_ids: New ids, without the prompt; a stop token that ended it is the last one.
        data: Bytes of the new tokens, the stop token's excepted.
        finish_reason: "stop" (a stop token), "length" (max_new_tokens or the context's end).
        stats: What it took.
    """

    token_ids: list[int]
    data: bytes
    finish_reason: str
    stats: DecodingStats = field(repr=False)

    @property
    def text(self) -> str:
        """The bytes as text; a character cut in half is shown as U+FFFD."""
        return self.data.decode("utf-8", errors="replace")


def default_verifier(sampling: Sampling) -> Verifier:
    """Return greedy verification at temperature 0, seed-exact sampling otherwise."""
    return Greedy() if sampling.temperature == 0 else SeedExact(sampling.seed)


def generate(
    lm: LanguageModel,
    prompt: str | bytes | Sequence[int],
    *,
    max_new_tokens: int = 256,
    drafter: str | Drafter | None = None,
    verifier: Verifier | None = None,
    sampling: Sampling | None = None,
    num_draft_tokens: int = 8,
    stop_ids: Sequence[int] | None = None,
    draft_model: LanguageModel | None = None,
    on_tokens: Callable[[tuple[int, ...]], None] | None = None,
) -> Generation:
    """Continue a prompt; any drafter gives the same output as none, only faster.

    Args:
        lm: The target.
        prompt: Text, bytes, or ids that are taken as they are. Text begins with the tokenizer's
            start token where the tokenizer itself would add one.
        max_new_tokens: Upper bound on the new tokens.
        drafter: A name of `jeton methods`, an instance, or None for plain decoding.
        verifier: None takes `default_verifier`.
        sampling: None is greedy.
        num_draft_tokens: Most nodes per draft.
        stop_ids: None takes the model's end-of-text ids; [] never stops.
        draft_model: For drafters that need one.
        on_tokens: Called with the tokens of each step, for streaming.

    Raises:
        ConfigError: a prompt without tokens, a bound below 1.
        TokenizerMismatchError: prompt ids out of range, or a draft model of another vocabulary.
        UnsupportedModelError: a tree drafter on a model that takes no trees.

    Example:
        >>> from jeton.testing.models import tiny_language_model
        >>> lm = tiny_language_model("llama")
        >>> plain = generate(lm, [5, 6, 7], max_new_tokens=8, stop_ids=[])
        >>> drafted = generate(
        ...     lm, [5, 6, 7], max_new_tokens=8, stop_ids=[], drafter="prompt_lookup"
        ... )
        >>> plain.token_ids == drafted.token_ids
        True
    """
    sampling = sampling or Sampling()
    loop = DecodingLoop(
        lm,
        drafter=DRAFTERS.create(drafter) if isinstance(drafter, str) else drafter,
        verifier=verifier or default_verifier(sampling),
        sampling=sampling,
        num_draft_tokens=num_draft_tokens,
        draft_model=draft_model,
    )
    stops = stop_token_ids(lm) if stop_ids is None else frozenset(stop_ids)
    token_ids: list[int] = []
    for new in loop.run(prompt_ids(lm, prompt), max_new_tokens, stops):
        token_ids.extend(new)
        if on_tokens is not None:
            on_tokens(new)
    stopped = bool(token_ids) and token_ids[-1] in stops
    spoken = token_ids[:-1] if stopped else token_ids
    return Generation(
        token_ids=token_ids,
        data=lm.vocabulary.bytes_of(spoken),
        finish_reason="stop" if stopped else "length",
        stats=loop.stats,
    )


class DecodingLoop:
    """Draft, verify, commit, observe; one instance may run several prompts after each other."""

    def __init__(
        self,
        lm: LanguageModel,
        *,
        drafter: Drafter | None,
        verifier: Verifier,
        sampling: Sampling,
        num_draft_tokens: int = 8,
        draft_model: LanguageModel | None = None,
        runner: Runner | None = None,
    ) -> None:
        if num_draft_tokens < 0:
            raise ConfigError(f"num_draft_tokens must be at least 0, got {num_draft_tokens}")
        self.lm, self.drafter, self.verifier, self.sampling = lm, drafter, verifier, sampling
        self.num_draft_tokens = num_draft_tokens
        self.draft_model = draft_model
        self.runner = runner or Runner(lm.model)
        self.stats = DecodingStats()
        needs = drafter.needs if drafter is not None else frozenset()
        self._wants_hidden, self._wants_logits = "hidden" in needs, "logits" in needs
        if drafter is not None and drafter.makes_trees and not self.runner.supports_trees:
            raise UnsupportedModelError(
                f"{lm.name} takes no token trees, {type(drafter).__name__} proposes them",
                hint="choose a drafter that proposes chains, such as prompt_lookup",
            )
        if "draft_model" in needs and draft_model is None:
            raise ConfigError(
                f"{type(drafter).__name__} needs a draft model", hint="give --draft-model"
            )
        self._plain = sampling.is_plain_greedy
        self._vocab_size = lm.vocabulary.vocab_size

    def run(
        self, token_ids: list[int], max_new_tokens: int, stops: frozenset[int] = frozenset()
    ) -> Iterator[tuple[int, ...]]:
        """Yield the tokens of each step; ends at a stop token or at a limit."""
        if max_new_tokens < 1:
            raise ConfigError(f"max_new_tokens must be at least 1, got {max_new_tokens}")
        longest = self.runner.max_length or len(token_ids) + max_new_tokens
        room = longest - len(token_ids)
        if room < 1:
            raise ConfigError(
                f"the prompt has {len(token_ids)} tokens, the context of {self.lm.name} holds "
                f"{longest}",
                hint="shorten the prompt",
            )
        left = min(max_new_tokens, room)
        self.stats = DecodingStats(num_prompt_tokens=len(token_ids))
        self.runner.reset()
        if self.drafter is not None:
            self.drafter.begin(
                DraftContext(
                    token_ids, self._vocab_size, self.sampling, self.draft_model, self.runner
                )
            )
        context = list(token_ids)
        started = time.perf_counter()
        logits = self.runner.prefill(token_ids)
        self.stats.prefill_s = time.perf_counter() - started
        root = TokenTree.chain(token_ids[-1:])
        rows = self._filtered(logits[None], root, context)
        step = Step(root, (0,), (self.verifier.select(root, rows, len(context)).next_token,))
        while True:
            self.stats.num_steps += 1
            new = _cut(step.token_ids, left, stops)
            left -= len(new)
            context.extend(new)
            self.stats.num_tokens += len(new)
            yield new
            if left == 0 or new[-1] in stops:
                return
            step = self._step(context, step, left)

    def _step(self, context: list[int], last: Step, left: int) -> Step:
        """Draft after the context, verify in one forward and commit what holds."""
        started = time.perf_counter()
        draft = NO_DRAFT
        if self.drafter is not None:
            self.drafter.observe(last)
            # The last token is drawn, not drafted: `left - 1` is all that a draft can give.
            budget = min(self.num_draft_tokens, left - 1)
            draft = self.drafter.propose(budget) if budget > 0 else NO_DRAFT
        tree = _under_root(context[-1], draft)
        drafted = time.perf_counter()
        verified = self.runner.verify(tree, hidden=self._wants_hidden)
        rows = self._filtered(verified.logits, tree, context)
        chosen = self.verifier.select(tree, rows, len(context))
        self.runner.commit(list(chosen.path))
        self.stats.draft_s += drafted - started
        self.stats.verify_s += time.perf_counter() - drafted
        if len(tree) > 1:
            self._count(tree, chosen.path)
        accepted = tuple(tree.token_ids[node] for node in chosen.path[1:])
        return Step(
            tree,
            chosen.path,
            (*accepted, chosen.next_token),
            verified.logits if self._wants_logits else None,
            verified.hidden,
        )

    def _filtered(self, logits: Tensor, tree: TokenTree, context: list[int]) -> Tensor:
        """Drop padded rows and apply the sampling's filters, each node with its own context."""
        rows = logits[:, : self._vocab_size]
        if self._plain:
            return rows
        return filter_rows(rows, tree, context, self.sampling)

    def _count(self, tree: TokenTree, path: tuple[int, ...]) -> None:
        stats = self.stats
        stats.num_proposed += len(tree) - 1
        stats.num_accepted += len(path) - 1
        deepest = max(tree.depths)
        while len(stats.proposed_by_depth) < deepest:
            stats.proposed_by_depth.append(0)
            stats.accepted_by_depth.append(0)
        for depth in tree.depths[1:]:
            stats.proposed_by_depth[depth - 1] += 1
        for node in path[1:]:
            stats.accepted_by_depth[tree.depths[node] - 1] += 1


def _under_root(root: int, draft: TokenTree) -> TokenTree:
    """Return the tree of the last token with the draft below it."""
    if not len(draft):
        return TokenTree.chain([root])
    return TokenTree(
        [root, *draft.token_ids],
        [-1, *(parent + 1 for parent in draft.parents)],
        None if draft.logq is None else [0.0, *draft.logq],
        None if draft.source is None else [-1, *draft.source],
    )


def _cut(token_ids: tuple[int, ...], left: int, stops: frozenset[int]) -> tuple[int, ...]:
    """Return the tokens up to the first stop token, at most `left`."""
    for index, token_id in enumerate(token_ids[:left]):
        if token_id in stops:
            return token_ids[: index + 1]
    return token_ids[:left]
