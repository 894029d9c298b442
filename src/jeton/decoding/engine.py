"""The one decoding loop: draft, verify in one forward, commit, observe."""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace

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
from jeton.decoding.prompt import prompt_ids, stop_token_ids
from jeton.decoding.registry import DRAFTERS, VERIFIERS
from jeton.decoding.sizing import best_num_nodes
from jeton.decoding.verifiers.greedy import Greedy
from jeton.decoding.verifiers.seed_exact import SeedExact
from jeton.errors import ConfigError, TokenizerMismatchError, UnsupportedModelError
from jeton.lm.cost import CostTable
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


def create_drafter(name: str) -> Drafter:
    """Return a drafter by name; several names joined by "+" are merged.

    Example:
        >>> create_drafter("lookahead+aded").drafters
        'lookahead+aded'
    """
    options = {"drafters": name} if "+" in name else None
    drafter: Drafter = DRAFTERS.create("merge" if options else name, options)
    return drafter


def create_verifier(name: str, sampling: Sampling) -> Verifier:
    """Return a verifier by name, with the seed of the sampling where it samples."""
    is_sampler = VERIFIERS.load(name).is_sampler  # type: ignore[attr-defined]
    verifier: Verifier = VERIFIERS.create(name, {"seed": sampling.seed} if is_sampler else None)
    return verifier


def generate(
    lm: LanguageModel,
    prompt: str | bytes | Sequence[int],
    *,
    max_new_tokens: int = 256,
    drafter: str | Drafter | None = None,
    verifier: str | Verifier | None = None,
    sampling: Sampling | None = None,
    num_draft_tokens: int = 8,
    cost: CostTable | None = None,
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
        drafter: A name of `jeton methods`, several joined by "+", an instance, or None for plain
            decoding.
        verifier: A name, an instance, or None for `default_verifier`.
        sampling: None is greedy.
        num_draft_tokens: Most nodes per draft.
        cost: Of the model's forwards (`jeton.lm.cost.measure_cost`): drafts are then cut to what
            is worth verifying. None verifies whole drafts.
        stop_ids: None takes the model's end-of-text ids; [] never stops.
        draft_model: For drafters that need one.
        on_tokens: Called with the tokens of each step, for streaming.

    Raises:
        ConfigError: a prompt without tokens or longer than the context, a bound below 1, a
            verifier that does not fit the temperature or the drafter.
        TokenizerMismatchError: prompt ids out of range, or a draft model of another vocabulary.
        UnknownMethodError: there is no such drafter.
        UnsupportedModelError: a tree drafter on a model that takes no trees.

    Example:
        >>> from jeton.testing.decoding import tiny_language_model
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
        drafter=create_drafter(drafter) if isinstance(drafter, str) else drafter,
        verifier=(
            create_verifier(verifier, sampling)
            if isinstance(verifier, str)
            else verifier or default_verifier(sampling)
        ),
        sampling=sampling,
        num_draft_tokens=num_draft_tokens,
        draft_model=draft_model,
        cost=cost,
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
        processors: Sequence[Processor] = (),
        cost: CostTable | None = None,
    ) -> None:
        if num_draft_tokens < 0:
            raise ConfigError(f"num_draft_tokens must be at least 0, got {num_draft_tokens}")
        _check_verifier(verifier, sampling)
        self.lm, self.drafter, self.verifier, self.sampling = lm, drafter, verifier, sampling
        self.num_draft_tokens = num_draft_tokens
        self.draft_model = draft_model
        self.processors, self.cost = processors, cost
        self.runner = runner or Runner(lm.model)
        self.stats = DecodingStats()
        self._calibration = Calibration()
        self._wants_hidden = self._wants_logits = False
        self._vocab_size = lm.vocabulary.vocab_size
        if drafter is not None:
            _check_drafter(drafter, verifier, lm, self.runner, draft_model)
            self._wants_hidden = "hidden" in drafter.needs
            self._wants_logits = "logits" in drafter.needs

    def run(
        self, token_ids: list[int], max_new_tokens: int, stops: frozenset[int] = frozenset()
    ) -> Iterator[tuple[int, ...]]:
        """Yield the tokens of each step; ends at a stop token or at a limit."""
        left = self._room(len(token_ids), max_new_tokens)
        stats = self.stats = DecodingStats(num_prompt_tokens=len(token_ids))
        self.runner.reset()
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
                )
            )
        context = list(token_ids)
        logits = self.runner.prefill(token_ids)
        stats.prefill_s = time.perf_counter() - started
        step = self._select(Draft([token_ids[-1]], [-1]), logits[None], None, context)
        while True:
            stats.num_steps += 1
            new = _cut(step.token_ids, left, stops)
            if self.drafter is not None:
                self._observe(step, new)
            left -= len(new)
            context.extend(new)
            stats.num_tokens += len(new)
            yield new
            if left == 0 or new[-1] in stops:
                return
            step = self._step(context, left)

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
        started = time.perf_counter()
        draft = NO_DRAFT
        deepest = left - 1  # the last token is drawn, not drafted
        if self.drafter is not None and self.num_draft_tokens and deepest:
            is_chain = not self.drafter.makes_trees
            most = min(self.num_draft_tokens, deepest) if is_chain else self.num_draft_tokens
            draft = self._sized(up_to_depth(self.drafter.propose(most), deepest))
        tree = under_root(context[-1], draft)
        drafted = time.perf_counter()
        verified = self.runner.verify(tree, hidden=self._wants_hidden)
        step = self._select(tree, verified.logits, verified.hidden, context)
        self.runner.commit(list(step.accepted))
        self.stats.draft_s += drafted - started
        self.stats.verify_s += time.perf_counter() - drafted
        if len(tree) > 1:
            self.stats.count(tree, step.accepted)
        return step

    def _sized(self, draft: TokenTree) -> TokenTree:
        """Cut a draft to the nodes that are worth their cost; drawn ones must all be verified."""
        if self.cost is None or not len(draft) or (isinstance(draft, Draft) and draft.laws):
            return draft
        survival = self._calibration.survival(draft)
        return draft.prune(best_num_nodes(survival, self.cost), survival)

    def _select(
        self, tree: Draft, logits: Tensor, hidden: Tensor | None, context: list[int]
    ) -> Step:
        """Drop padded rows, apply the filters and let the verifier decide."""
        raw = logits[:, : self._vocab_size]
        rows = TreeLogits(raw, tree, context, self.sampling, self.processors)
        chosen = self.verifier.select(tree, rows, len(context))
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
    if "draft_model" not in drafter.needs:
        return
    if draft_model is None:
        raise ConfigError(f"{name} needs a draft model", hint="give --draft-model")
    if draft_model.vocabulary.tokens != lm.vocabulary.tokens:
        raise TokenizerMismatchError(
            f"{draft_model.name} and {lm.name} do not share a vocabulary "
            f"({draft_model.vocabulary.vocab_size} and {lm.vocabulary.vocab_size} ids)",
            hint="take a draft model with the target's tokenizer",
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
