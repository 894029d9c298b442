"""Questions to a model, in token ids: multiple choice, and accuracy by a property of the item."""

from collections.abc import Sequence
from typing import Protocol

import numpy as np

from jeton.audit.encoding import encode_all
from jeton.audit.evidence import FloatArray
from jeton.core.vocabulary import Vocabulary


class Asked(Protocol):
    """What metrics ask of a model."""

    def answer_logprobs(
        self, prompts: Sequence[Sequence[int]], answers: Sequence[Sequence[int]]
    ) -> FloatArray:
        """Return the log-probability of each answer after its prompt, in nats, shape (prompts,)."""
        ...


def choose(
    asked: Asked, vocabulary: Vocabulary, prompts: Sequence[str], options: Sequence[Sequence[str]]
) -> list[int]:
    """Return which option of each prompt the model finds most probable; ties take the first.

    The prompt and the option are encoded as one text and scored from where the two encodings part,
    so that a token across their border is the model's own.

    Args:
        asked: The model.
        vocabulary: Its own.
        prompts: Questions.
        options: Answers to choose from, for each prompt.
    """
    texts = [prompt + option for prompt, many in zip(prompts, options, strict=True)
             for option in many]  # fmt: skip
    encodings = [ids.tolist() for ids in encode_all(vocabulary, texts)]
    heads, tails, owners = [], [], []
    at = 0
    for owner, many in enumerate(options):
        own = encodings[at : at + len(many)]
        shared = common_length(own)
        heads += [ids[:shared] for ids in own]
        tails += [ids[shared:] for ids in own]
        owners += [owner] * len(many)
        at += len(many)
    logprobs = asked.answer_logprobs(heads, tails)
    owner_of = np.array(owners)
    return [int(np.argmax(logprobs[owner_of == owner])) for owner in range(len(prompts))]


def common_length(encodings: Sequence[Sequence[int]]) -> int:
    """Return how many first ids all have in common, so that each has at least one left.

    Example:
        >>> common_length([[5, 6, 7], [5, 6, 8, 9]]), common_length([[5], [5, 6]])
        (2, 0)
    """
    shared = 0
    for ids in zip(*encodings, strict=False):
        if len(set(ids)) > 1:
            break
        shared += 1
    return min(shared, min(map(len, encodings)) - 1)


def accuracy_by(is_right: Sequence[bool], labels: Sequence[str]) -> dict[str, float]:
    """Return the share of right answers under each label, in sorted order.

    Example:
        >>> accuracy_by([True, False, True], ["a", "b", "b"])
        {'a': 1.0, 'b': 0.5}
    """
    found = {}
    for label in sorted(set(labels)):
        own = [right for right, at in zip(is_right, labels, strict=True) if at == label]
        found[label] = sum(own) / len(own)
    return found
