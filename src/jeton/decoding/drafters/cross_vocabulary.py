"""Cross-vocabulary draft: a model of any tokenizer writes text, which becomes the target's tokens.

Source: Timor et al. 2025, https://arxiv.org/abs/2502.05202, string-level exact match (SLEM).
Differs from the source: the draft model always writes its best guess, also where the target
samples: noise of the target's ids says nothing about other ids. Only words that the target's text
changed are encoded again, so that both caches keep everything before them. A drafted token is
proposed when more text stands behind it, as what follows could still change it.
Cost: one forward of the draft model per token that it writes, and the encoding of some words.
"""

from bisect import bisect_right
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import accumulate
from typing import ClassVar

from jeton.core.vocabulary import Vocabulary
from jeton.decoding.contract import DraftContext, Step
from jeton.decoding.prompt import start_token_ids, stop_token_ids
from jeton.decoding.written import Written, encode_behind, num_shared
from jeton.errors import ConfigError
from jeton.lm.load import LanguageModel
from jeton.lm.runner import Runner
from jeton.lm.tree import TokenTree

_LOOK_BACK = 16  # tokens in which the beginning of the last word is sought


class _DraftText:
    """The text in the tokens of the draft model, and its cache."""

    def __init__(self, lm: LanguageModel, text: bytes) -> None:
        self._vocabulary, self._runner = lm.vocabulary, Runner(lm.model)
        self._stops = stop_token_ids(lm)
        self._ids = start_token_ids(lm)
        self._num_start = len(self._ids)
        self._ends = [0] * len(self._ids)  # of each token, in bytes of text and draft
        self._text, self._drafted = bytearray(), b""
        self.add(text)

    @property
    def is_empty(self) -> bool:
        """Whether there is no text yet."""
        return not self._text

    def add(self, new: bytes) -> None:
        """Let the text grow; of the draft stays what the new bytes repeat."""
        text = self._text
        shared = len(text) + num_shared(self._drafted, new)
        self._drafted = b""
        text += new
        kept = bisect_right(self._ends, shared)
        if not kept or self._ends[kept - 1] < len(text):  # what follows may join the last word
            kept = self._word_start(kept)
        at = self._ends[kept - 1] if kept else 0
        rest = bytes(text[at:])
        ids = encode_behind(self._vocabulary, rest) if at else self._vocabulary.encode_lossy(rest)
        same = kept + num_shared(self._ids[kept:], ids)
        self._runner.truncate(min(self._runner.length, same))
        self._ids[kept:], self._ends[kept:] = ids, self._ends_of(ids, at)

    def _word_start(self, kept: int) -> int:
        """Return the place of the last token that begins a word, `kept` where none is near."""
        for place in range(kept - 1, max(self._num_start, kept - _LOOK_BACK) - 1, -1):
            if self._vocabulary.tokens[self._ids[place]][:1] in (b" ", b"\n"):
                return place
        return kept

    def _ends_of(self, ids: list[int], at: int) -> list[int]:
        """Return where each token ends; all at the end where the bytes are not expressible."""
        size = len(self._text) - at
        ends = list(accumulate(len(self._vocabulary.tokens[token_id]) for token_id in ids))
        surplus = ends[-1] - size if ends else 0
        if surplus not in (0, 1):  # 1: the start rule's space
            return [at + size] * len(ids)
        return [at + max(0, end - surplus) for end in ends]

    def write(
        self, is_enough: Callable[[Written], bool], min_confidence: float, most: int
    ) -> Written:
        """Continue the text until it is enough, unsure or ended.

        Args:
            is_enough: Asked after each token.
            min_confidence: A token less likely than this is the last one.
            most: Tokens.
        """
        runner, size, written = self._runner, len(self._text), Written(b"", 0, is_end=False)
        if not self._ids or len(self._ids) > runner.max_length:
            return written
        runner.truncate(min(runner.length, len(self._ids) - 1))
        for turn in range(min(most, runner.max_length - len(self._ids) + 1)):
            logits = runner.prefill(self._ids[runner.length :] if turn == 0 else self._ids[-1:])
            law = logits[: self._vocabulary.vocab_size].softmax(-1)
            token_id = int(law.argmax())
            is_sure, token = (
                float(law[token_id]) >= min_confidence,
                self._vocabulary.tokens[token_id],
            )
            if token_id in self._stops or not token:
                is_end = is_sure and token_id in self._stops
                return Written(written.data, written.num_sure, is_end=is_end)
            data = written.data + token
            written = Written(data, len(data) if is_sure else written.num_sure, is_end=False)
            self._drafted = data
            self._ids.append(token_id)
            self._ends.append(size + len(data))
            if not is_sure or is_enough(written):
                break
        return written


@dataclass(slots=True)
class CrossVocabulary:
    """Options of the drafter.

    Attributes:
        min_confidence: Stop behind a token whose most likely value has a lower probability.
        max_draft_tokens: Most tokens that the draft model writes per step, in its vocabulary.
    """

    min_confidence: float = 0.4
    max_draft_tokens: int = 32

    needs: ClassVar[frozenset[str]] = frozenset({"any_draft_model"})
    makes_trees: ClassVar[bool] = False
    fixes_draws: ClassVar[bool] = False

    _target: Vocabulary | None = field(default=None, init=False, repr=False)
    _text: _DraftText | None = field(default=None, init=False, repr=False)

    def __post_init__(self) -> None:
        if not 0 <= self.min_confidence <= 1:
            raise ConfigError(f"min_confidence must be in [0, 1], got {self.min_confidence}")
        if self.max_draft_tokens < 1:
            raise ConfigError(f"max_draft_tokens must be 1 or more, got {self.max_draft_tokens}")

    def begin(self, context: DraftContext) -> None:
        """Start with an empty cache; special tokens of the target are not text."""
        target: Vocabulary | None = context.vocabulary
        if target is None or not any(target.tokens):
            raise ConfigError("cross_vocabulary needs the bytes of the target's tokens")
        self._target = target
        self._text = _DraftText(context.draft_model, target.decode(context.token_ids))

    def propose(self, num_draft_tokens: int) -> TokenTree:
        """Return the chain of the target's tokens that the draft model's text stands for."""
        text, target = self._text, self._target
        assert text is not None and target is not None, "begin comes first"
        if text.is_empty:  # how a text begins is for the target's start rule
            return TokenTree.chain([])

        def is_enough(written: Written) -> bool:
            return len(written.tokens(target)) >= num_draft_tokens

        written = text.write(is_enough, self.min_confidence, self.max_draft_tokens)
        return TokenTree.chain(written.tokens(target)[:num_draft_tokens])

    def observe(self, step: Step) -> None:
        """Follow the target."""
        text, target = self._text, self._target
        assert text is not None and target is not None
        text.add((target.decode if text.is_empty else target.bytes_of)(step.token_ids))
