"""The one decoding loop: draft, verify in one forward, commit, observe."""

import time
from collections.abc import Callable, Generator, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from jeton.decoding.calibration import Calibration
from jeton.decoding.contract import (
    DecodingStats,
    Draft,
    DraftContext,
    Drafter,
    Law,
    Sampling,
    Step,
    Verifier,
)
from jeton.decoding.filters import Processor, TreeLogits
from jeton.decoding.sizing import best_num_nodes
from jeton.errors import ConfigError, TokenizerMismatchError, UnsupportedModelError
from jeton.lm.bitwise import near_tie_margin
from jeton.lm.cost import CostTable
from jeton.lm.load import LanguageModel
from jeton.lm.runner import Runner
from jeton.lm.tree import TokenTree

Watch = Callable[[Step, tuple[int, ...], TreeLogits], None]
"""Sees each finished step: (step, the tokens kept of it, the target's logits at its nodes)."""

NO_DRAFT = TokenTree.chain([])


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
        processors: Sequence[Processor] = (),
        cost: CostTable | None = None,
        watch: Watch | None = None,
    ) -> None:
        """Check that everything fits together.

        Args:
            lm: The target.
            drafter: None decodes plainly.
            verifier: Decides.
            sampling: The filters of each node.
            num_draft_tokens: Most nodes per draft.
            draft_model: For drafters that need one.
            runner: Of the target; None makes one.
            processors: Logits processors of transformers, applied at each node before the filters.
            cost: Of the target's forwards; cuts drafts to what is worth verifying.
            watch: Called with each finished step.
        """
        if num_draft_tokens < 0:
            raise ConfigError(f"num_draft_tokens must be at least 0, got {num_draft_tokens}")
        _check_verifier(verifier, sampling)
        self.lm, self.drafter, self.verifier, self.sampling = lm, drafter, verifier, sampling
        self.num_draft_tokens = num_draft_tokens
        self.draft_model = draft_model
        self.processors, self.cost, self.watch = processors, cost, watch
        self.runner = runner or Runner(lm.model)
        self.stats = DecodingStats()
        self._calibration = Calibration()
        self.wants_hidden, self._wants_logits = verifier.needs_hidden, False
        self._vocab_size = lm.vocabulary.vocab_size
        self.runs_alone = True  # not beside other texts, whose number changes the rounding
        self._may_tie = sampling.temperature == 0 and lm.model.dtype != torch.float32
        if drafter is not None:
            _check_drafter(drafter, verifier, lm, self.runner, draft_model)
            self.wants_hidden |= "hidden" in drafter.needs
            self._wants_logits = "logits" in drafter.needs

    def run(
        self, token_ids: list[int], max_new_tokens: int, stops: frozenset[int] = frozenset()
    ) -> Generator[tuple[int, ...], None, None]:
        """Yield the tokens of each step; ends at a stop token or at a limit."""
        self.runner.reset()
        left = self.begin(token_ids, max_new_tokens)
        context = list(token_ids)
        started = time.perf_counter()
        logits = self.runner.prefill(token_ids)
        self.stats.prefill_s += time.perf_counter() - started
        step = self.first(context, logits)
        while True:
            new = self.settle(step, left, stops)
            left -= len(new)
            context.extend(new)
            yield new
            if left == 0 or new[-1] in stops:
                return
            step = self._step(context, left)

    def begin(self, token_ids: list[int], max_new_tokens: int) -> int:
        """Start with a prompt; return how many tokens may be added."""
        left = self._room(len(token_ids), max_new_tokens)
        self.stats = DecodingStats(num_prompt_tokens=len(token_ids))
        started = time.perf_counter()
        if self.drafter is not None:
            self.drafter.begin(
                DraftContext(
                    token_ids,
                    self._vocab_size,
                    self.sampling,
                    self.draft_model,
                    self.runner,
                    self.verifier.draws,
                    self.lm.vocabulary,
                )
            )
        self.stats.prefill_s = time.perf_counter() - started
        return left

    def first(self, context: list[int], logits: Tensor) -> Step:
        """Return the step that follows the prompt, from the logits after it."""
        return self.select(Draft([context[-1]], [-1]), logits[None], None, context)

    def settle(self, step: Step, left: int, stops: frozenset[int]) -> tuple[int, ...]:
        """Cut a step at a stop token or a limit, tell who must know, and return its tokens."""
        self.stats.num_steps += 1
        new = _cut(step.token_ids, left, stops)
        if self.drafter is not None:
            self._observe(step, new)
        if self.watch is not None:
            self.watch(step, new, self._rows)
        self.stats.num_tokens += len(new)
        return new

    def _room(self, num_prompt: int, max_new_tokens: int) -> int:
        """Return how many tokens may be added."""
        if max_new_tokens < 1:
            raise ConfigError(f"max_new_tokens must be at least 1, got {max_new_tokens}")
        if num_prompt < 1:
            raise ConfigError("the prompt has no tokens", hint="give at least one")
        longest = self.runner.max_length
        if num_prompt >= longest:
            raise ConfigError(
                f"the prompt has {num_prompt} tokens, the context of {self.lm.name} holds "
                f"{longest} and the answer needs at least 1",
                hint="shorten the prompt",
            )
        return min(max_new_tokens, longest - num_prompt)

    def _step(self, context: list[int], left: int) -> Step:
        """Draft after the context, verify in one forward and commit what holds."""
        tree = self.draft(context, left)
        started = time.perf_counter()
        verified = self.runner.verify(tree, hidden=self.wants_hidden)
        step = self.select(tree, verified.logits, verified.hidden, context)
        self.runner.commit(list(step.accepted))
        self.stats.verify_s += time.perf_counter() - started
        return step

    def draft(self, context: list[int], left: int) -> Draft:
        """Return the last token with the draft below it; its nodes follow the context."""
        started = time.perf_counter()
        draft = NO_DRAFT
        deepest = left - 1  # the last token is drawn, not drafted
        if self.runner.room is not None:  # a cache policy sets the end of a stride
            deepest = min(deepest, self.runner.room - 1)
        if self.drafter is not None and self.num_draft_tokens and deepest:
            is_chain = not self.drafter.makes_trees
            most = min(self.num_draft_tokens, deepest) if is_chain else self.num_draft_tokens
            draft = self._sized(up_to_depth(self.drafter.propose(most), deepest))
        tree = under_root(context[-1], draft)
        self.stats.draft_s += time.perf_counter() - started
        return tree

    def _sized(self, draft: TokenTree) -> TokenTree:
        """Cut a draft to the nodes that are worth their cost; drawn ones must all be verified."""
        if self.cost is None or not len(draft) or (isinstance(draft, Draft) and draft.laws):
            return draft
        survival = self._calibration.survival(draft)
        return draft.prune(best_num_nodes(survival, self.cost), survival)

    def select(
        self, tree: Draft, logits: Tensor, hidden: Tensor | None, context: list[int]
    ) -> Step:
        """Drop padded rows, apply the filters and let the verifier decide."""
        raw = logits[:, : self._vocab_size]
        states = hidden if self.verifier.needs_hidden else None
        rows = TreeLogits(raw, tree, context, self.sampling, self.processors, states)
        self._rows = rows  # for whoever watches
        chosen = self.verifier.select(tree, rows, len(context))
        if self._may_tie and not (self.runs_alone and self.runner.is_exact(tree)):
            best = raw[list(chosen.path)].topk(2, dim=-1).values
            margin = near_tie_margin(best, self.lm.model.dtype)
            self.stats.num_near_ties += int((best[:, 0] - best[:, 1] <= margin).sum())
        if len(tree) > 1:
            self.stats.count(tree, chosen.path)
        accepted = [tree.token_ids[node] for node in chosen.path[1:]]
        return Step(
            tree,
            chosen.path,
            (*accepted, chosen.next_token),
            raw if self._wants_logits else None,
            hidden,
        )

    def _observe(self, step: Step, new: tuple[int, ...]) -> None:
        """Tell the drafter what the step added; what was cut off never happened."""
        assert self.drafter is not None
        started = time.perf_counter()
        if len(new) < len(step.token_ids):
            step = replace(step, accepted=step.accepted[: len(new) + 1], token_ids=new)
        self.drafter.observe(step)
        if self.cost is not None:
            self._calibration.observe(step)
        self.stats.draft_s += time.perf_counter() - started


def _check_verifier(verifier: Verifier, sampling: Sampling) -> None:
    """Refuse a greedy verifier that should sample, and the reverse."""
    is_warm = sampling.temperature > 0
    if verifier.is_sampler is None or verifier.is_sampler == is_warm:
        return
    name = type(verifier).__name__
    if is_warm:
        raise ConfigError(
            f"{name} is greedy, the temperature is {sampling.temperature}",
            hint="set the temperature to 0, or take a verifier that samples",
        )
    raise ConfigError(
        f"{name} samples, the temperature is 0",
        hint="set a temperature above 0, or take the verifier greedy",
    )


def _check_drafter(
    drafter: Drafter,
    verifier: Verifier,
    lm: LanguageModel,
    runner: Runner,
    draft_model: LanguageModel | None,
) -> None:
    """Refuse a drafter that does not fit the model, the verifier or what was given."""
    name = type(drafter).__name__
    if drafter.makes_trees and not runner.supports_trees:
        raise UnsupportedModelError(
            f"{lm.name} takes no token trees, {name} proposes them",
            hint="choose a drafter that proposes chains, such as prompt_lookup",
        )
    if verifier.needs_fixed_draws and not drafter.fixes_draws:
        raise ConfigError(
            f"{type(verifier).__name__} needs a drafter that draws from a distribution; "
            f"{name} does not",
            hint="take seed_exact, which works with every drafter",
        )
    if not drafter.needs & {"draft_model", "any_draft_model"}:
        return
    if draft_model is None:
        raise ConfigError(f"{name} needs a draft model", hint="give --draft-model")
    takes_any = "any_draft_model" in drafter.needs
    if not takes_any and draft_model.vocabulary.tokens != lm.vocabulary.tokens:
        raise TokenizerMismatchError(
            f"{draft_model.name} and {lm.name} do not share a vocabulary "
            f"({draft_model.vocabulary.vocab_size} and {lm.vocabulary.vocab_size} ids)",
            hint="take a draft model with the target's tokenizer, or the drafter cross_vocabulary",
        )


def up_to_depth(draft: TokenTree, num_levels: int) -> TokenTree:
    """Return the first levels of a draft; a cut by depth leaves the laws of what stays exact."""
    if not len(draft) or max(draft.depths) < num_levels:
        return draft
    kept = [node for node, depth in enumerate(draft.depths) if depth < num_levels]
    tree = draft.select(kept)
    place = {-1: -1, **{node: index for index, node in enumerate(kept)}}
    laws = draft.laws if isinstance(draft, Draft) else {}
    still = {
        place[node]: Law(law.probabilities, tuple(place[child] for child in law.drawn))
        for node, law in laws.items()
        if node in place and all(child in place for child in law.drawn)
    }
    return Draft(tree.token_ids, tree.parents, tree.logq, tree.source, still)


def under_root(root: int, draft: TokenTree) -> Draft:
    """Return the tree of the last token with the draft below it."""
    laws = draft.laws if isinstance(draft, Draft) else {}
    return Draft(
        [root, *draft.token_ids],
        [-1, *(parent + 1 for parent in draft.parents)],
        None if draft.logq is None else [0.0, *draft.logq],
        None if draft.source is None else [-1, *draft.source],
        {
            node + 1: Law(law.probabilities, tuple(child + 1 for child in law.drawn))
            for node, law in laws.items()
        },
    )


def _cut(token_ids: tuple[int, ...], left: int, stops: frozenset[int]) -> tuple[int, ...]:
    """Return the tokens up to the first stop token, at most `left`."""
    for index, token_id in enumerate(token_ids[:left]):
        if token_id in stops:
            return token_ids[: index + 1]
    return token_ids[:left]
