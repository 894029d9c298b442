"""Text that a model of another vocabulary wrote, in the target's tokens."""

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import takewhile

from jeton.core.vocabulary import StartRule, Vocabulary


def encode_behind(vocabulary: Vocabulary, data: bytes) -> list[int]:
    """Return the tokens of bytes that follow other text: no space is put before them."""
    if vocabulary.start_rule is StartRule.NONE:
        return vocabulary.encode_lossy(data)
    ids = vocabulary.encode_lossy(b"\n" + data)
    ends = vocabulary.token_offsets(ids)
    return ids[bisect_right(ends, 1) :] if 1 in ends else vocabulary.encode_lossy(data)


def num_shared(a: Sequence[int], b: Sequence[int]) -> int:
    """Return how many items two sequences begin with alike."""
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(a, b, strict=False)))


@dataclass(frozen=True, slots=True)
class Written:
    """What the draft model wrote.

    Attributes:
        data: The new bytes.
        num_sure: Bytes of these that it was sure of; the others only settle the token before.
        is_end: Whether it ended the text.
    """

    data: bytes
    num_sure: int
    is_end: bool

    def tokens(self, target: Vocabulary) -> list[int]:
        """Return the target's tokens that later text will not change."""
        found: list[int] = []
        at = 0
        for token_id in encode_behind(target, self.data):
            token = target.tokens[token_id]
            end = at + len(token)
            last = self.num_sure if self.is_end else min(self.num_sure, len(self.data) - 1)
            if not token or self.data[at:end] != token or end > last:
                return found
            found.append(token_id)
            at = end
        if self.is_end and target.eos_token_id is not None:
            found.append(target.eos_token_id)
        return found
