"""Several prompts at once: every text has its own drafter, trees, acceptance and end."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from jeton.decoding.contract import Drafter, Sampling, Step, Verifier
from jeton.decoding.create import create_drafter, create_verifier, default_verifier
from jeton.decoding.engine import DecodingLoop
from jeton.decoding.generation import Generation
from jeton.decoding.prompt import prompt_ids, stop_token_ids
from jeton.errors import ConfigError, UnsupportedModelError
from jeton.lm.batch import BatchRunner
from jeton.lm.cost import CostTable
from jeton.lm.load import LanguageModel
from jeton.lm.runner import Runner


@dataclass(slots=True)
class _Text:
    """A prompt on its way.

    Attributes:
        index: Of the prompt.
        loop: Its drafter, verifier and figures; the forwards are the batch's.
        context: Tokens so far.
        left: How many may follow.
    """

    index: int
    loop: DecodingLoop
    context: list[int]
    left: int
    is_over: bool = False


class BatchLoop:
    """Decode several prompts; each gets the tokens that it gets alone.

    Models whose cache cannot hold texts side by side (windows, recurrent layers) decode them one
    after the other; `is_batched` says which.
    """

    def __init__(self, loops: Sequence[DecodingLoop]) -> None:
        """Take a loop for each prompt, all over one runner.

        Args:
            loops: Each with a drafter of its own.
        Raises:
            ConfigError: no loops, or loops over several runners or sharing a drafter.
        """
        if not loops or any(loop.runner is not loops[0].runner for loop in loops):
            raise ConfigError("a batch needs loops over one runner")
        drafters = [id(loop.drafter) for loop in loops if loop.drafter is not None]
        if len(set(drafters)) < len(drafters):
            raise ConfigError("texts of a batch share a drafter", hint="make one for each text")
        self.loops = list(loops)
        self._batch: BatchRunner | None = None
        try:
            self._batch = BatchRunner(loops[0].runner)
        except UnsupportedModelError:
            self._batch = None
        for loop in loops:
            loop.runs_alone = self._batch is None
        self._texts: list[_Text] = []

    @property
    def is_batched(self) -> bool:
        """Whether one forward serves all texts."""
        return self._batch is not None

    def end(self, index: int) -> None:
        """End a text early; may be called between the steps of `run`."""
        for text in self._texts:
            text.is_over |= text.index == index

    def run(
        self,
        prompts: Sequence[list[int]],
        max_new_tokens: int,
        stops: frozenset[int] = frozenset(),
    ) -> Iterator[tuple[int, tuple[int, ...]]]:
        """Yield the index of a prompt and the tokens of its step, until all have ended."""
        if len(prompts) != len(self.loops):
            raise ConfigError(f"{len(prompts)} prompts for a batch of {len(self.loops)}")
        if self._batch is None:
            yield from self._one_by_one(prompts, max_new_tokens, stops)
            return
        texts = self._texts = []
        for index, (loop, ids) in enumerate(zip(self.loops, prompts, strict=True)):
            texts.append(_Text(index, loop, list(ids), loop.begin(list(ids), max_new_tokens)))
        logits = self._batch.prefill(prompts)
        steps = [
            text.loop.first(text.context, row) for text, row in zip(texts, logits, strict=True)
        ]
        while True:
            for text, step in zip(texts, steps, strict=True):
                yield text.index, _add(text, step, stops)
            going = [place for place, text in enumerate(texts) if not text.is_over]
            if not going:
                return
            if len(going) < len(texts):
                self._batch.keep(going)
                texts = self._texts = [texts[place] for place in going]
            steps = self._step(self._batch, texts)

    def _step(self, batch: BatchRunner, texts: list[_Text]) -> list[Step]:
        """Draft for every text, verify all trees in one forward, commit what holds of each."""
        trees = [text.loop.draft(text.context, text.left) for text in texts]
        found = batch.verify(trees, hidden=any(text.loop.wants_hidden for text in texts))
        steps = [
            text.loop.select(tree, one.logits, one.hidden, text.context)
            for text, tree, one in zip(texts, trees, found, strict=True)
        ]
        batch.commit([step.accepted for step in steps])
        return steps

    def _one_by_one(
        self, prompts: Sequence[list[int]], max_new_tokens: int, stops: frozenset[int]
    ) -> Iterator[tuple[int, tuple[int, ...]]]:
        for index, (loop, ids) in enumerate(zip(self.loops, prompts, strict=True)):
            text = _Text(index, loop, list(ids), 0)
            self._texts = [text]
            for new in loop.run(list(ids), max_new_tokens, stops):
                yield index, new
                if text.is_over:
                    break


def _add(text: _Text, step: Step, stops: frozenset[int]) -> tuple[int, ...]:
    """Add a step to a text and return its tokens."""
    new = text.loop.settle(step, text.left, stops)
    text.left -= len(new)
    text.context.extend(new)
    text.is_over |= text.left == 0 or new[-1] in stops
    return new


def generate_batch(
    lm: LanguageModel,
    prompts: Sequence[str | bytes | Sequence[int]],
    *,
    max_new_tokens: int = 256,
    drafter: str | Sequence[Drafter] | None = None,
    verifier: str | Verifier | None = None,
    sampling: Sampling | None = None,
    num_draft_tokens: int = 8,
    cost: CostTable | None = None,
    stop_ids: Sequence[int] | None = None,
    draft_model: LanguageModel | None = None,
) -> list[Generation]:
    """Continue several prompts at once; each gets the tokens that `generate` gives it.

    Args:
        lm: The target.
        prompts: Each as for `generate`.
        max_new_tokens: Upper bound on the new tokens of each.
        drafter: A name, an instance for each prompt, or None.
        verifier: A name, an instance, or None for `default_verifier`.
        sampling: Of all texts; None is greedy. Noise follows from seed and position, so equal
            prompts get equal texts.
        num_draft_tokens: Most nodes per draft and text.
        cost: Cuts drafts to what is worth verifying.
        stop_ids: None takes the model's end-of-text ids.
        draft_model: For drafters that need one.

    Raises:
        ConfigError: no prompts, or a number of drafters that is not that of the prompts.

    Example:
        >>> from jeton.decoding.generation import generate
        >>> from jeton.testing.decoding import tiny_language_model
        >>> lm = tiny_language_model("llama")
        >>> options = {"max_new_tokens": 8, "stop_ids": [], "drafter": "prompt_lookup"}
        >>> both = generate_batch(lm, [[5, 6, 7], [8, 9]], **options)
        >>> both[1].token_ids == generate(lm, [8, 9], **options).token_ids
        True
    """
    sampling = sampling or Sampling()
    if not prompts:
        raise ConfigError("there are no prompts", hint="give at least one")
    drafters: Sequence[Drafter | None] = [
        create_drafter(drafter) if isinstance(drafter, str) else None for _ in prompts
    ]
    if drafter is not None and not isinstance(drafter, str):
        drafters = list(drafter)
    if len(drafters) != len(prompts):
        raise ConfigError(f"{len(drafters)} drafters for {len(prompts)} prompts")
    judge = create_verifier(verifier, sampling) if isinstance(verifier, str) else verifier
    runner = Runner(lm.model)
    loops = [
        DecodingLoop(
            lm,
            drafter=own,
            verifier=judge or default_verifier(sampling),
            sampling=sampling,
            num_draft_tokens=num_draft_tokens,
            draft_model=draft_model,
            runner=runner,
            cost=cost,
        )
        for own in drafters
    ]
    stops = stop_token_ids(lm) if stop_ids is None else frozenset(stop_ids)
    found: list[list[int]] = [[] for _ in prompts]
    for index, new in BatchLoop(loops).run(
        [prompt_ids(lm, prompt) for prompt in prompts], max_new_tokens, stops
    ):
        found[index].extend(new)
    return [_generation(lm, ids, stops, loop) for ids, loop in zip(found, loops, strict=True)]


def _generation(
    lm: LanguageModel, token_ids: list[int], stops: frozenset[int], loop: DecodingLoop
) -> Generation:
    stopped = bool(token_ids) and token_ids[-1] in stops
    return Generation(
        token_ids=token_ids,
        data=lm.vocabulary.bytes_of(token_ids[:-1] if stopped else token_ids),
        finish_reason="stop" if stopped else "length",
        stats=loop.stats,
    )
