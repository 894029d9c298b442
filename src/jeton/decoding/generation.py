"""Continue one prompt: what `jeton.generate` and the command line call."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from jeton.decoding.contract import DecodingStats, Drafter, Sampling, Verifier
from jeton.decoding.create import create_drafter, create_verifier, default_verifier
from jeton.decoding.engine import DecodingLoop, Watch
from jeton.decoding.filters import Processor
from jeton.decoding.prompt import prompt_ids, stop_token_ids
from jeton.decoding.stops import StopStrings
from jeton.lm.cost import CostTable
from jeton.lm.load import LanguageModel
from jeton.lm.runner import Runner


@dataclass(frozen=True, slots=True)
class Generation:
    """A finished generation.

    Attributes:
        token_ids: New ids, without the prompt; the token that ended it is the last one.
        data: Bytes of the new tokens: a stop token's excepted, cut before a stop string.
        finish_reason: "stop" (a stop token), "stop_string", "length" (max_new_tokens or the
            context's end) or "interrupted".
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
    stop_strings: Sequence[str | bytes] = (),
    processors: Sequence[Processor] = (),
    draft_model: LanguageModel | None = None,
    on_tokens: Callable[[tuple[int, ...]], None] | None = None,
    on_data: Callable[[bytes], None] | None = None,
    stop_when: Callable[[], bool] | None = None,
    watch: Watch | None = None,
    runner: Runner | None = None,
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
        stop_strings: The text ends before the first of them, wherever the tokens' borders lie.
        processors: Logits processors of transformers, each applied at every node of a draft with
            the context of that node; before the filters of the sampling.
        draft_model: For drafters that need one.
        on_tokens: Called with the tokens of each step.
        on_data: Called with the bytes that are settled after each step, for streaming: never a
            part of a stop string.
        stop_when: Asked after each step; True ends the text there, as "interrupted".
        watch: Called with each step (`jeton.decoding.trace` records them).
        runner: Of the target's model, with a cache of its own (`jeton.kv`); None makes one.

    Raises:
        ConfigError: a prompt without tokens or longer than the context, a bound below 1, a
            verifier that does not fit the temperature or the drafter, an empty stop string.
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
        processors=processors,
        cost=cost,
        watch=watch,
        runner=runner,
    )
    stops = stop_token_ids(lm) if stop_ids is None else frozenset(stop_ids)
    text = _Text(lm, stops, StopStrings(stop_strings), on_data or (lambda data: None))
    steps = loop.run(prompt_ids(lm, prompt), max_new_tokens, stops)
    for step in steps:
        new = text.add(step)
        if on_tokens is not None:
            on_tokens(new)
        if not text.finish_reason and stop_when is not None and stop_when():
            text.finish_reason = "interrupted"
        if text.finish_reason:
            break
    steps.close()
    text.finish()
    loop.stats.num_tokens = len(text.token_ids)
    return Generation(text.token_ids, bytes(text.data), text.finish_reason or "length", loop.stats)


class _Text:
    """The text so far: tokens, settled bytes, and why it ended."""

    def __init__(
        self,
        lm: LanguageModel,
        stop_ids: frozenset[int],
        stops: StopStrings,
        on_data: Callable[[bytes], None],
    ) -> None:
        self._lm, self._stop_ids, self._stops, self._on_data = lm, stop_ids, stops, on_data
        self.token_ids: list[int] = []
        self.data = bytearray()
        self.finish_reason = ""

    def add(self, step: tuple[int, ...]) -> tuple[int, ...]:
        """Take the tokens of a step up to the one that ends the text; return these."""
        settled = bytearray()
        before = len(self.token_ids)
        for token_id in step:
            self.token_ids.append(token_id)
            if token_id in self._stop_ids:
                self.finish_reason = "stop"
            else:
                settled += self._stops.add(self._lm.vocabulary.bytes_of([token_id]))
                if self._stops.is_met:
                    self.finish_reason = "stop_string"
            if self.finish_reason:
                break
        self._settle(bytes(settled))
        return tuple(self.token_ids[before:])

    def finish(self) -> None:
        """Settle what was held back."""
        self._settle(self._stops.flush())

    def _settle(self, data: bytes) -> None:
        self.data += data
        if data:
            self._on_data(data)
