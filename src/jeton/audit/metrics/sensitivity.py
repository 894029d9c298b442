"""Sensitivity: how many more tokens a text takes after typos and look-alike characters.

Source: Chai et al. 2024, Tokenization Falling Short, https://arxiv.org/abs/2406.11687 (typos);
    Eger et al. 2019, Text Processing Like Humans Do, https://arxiv.org/abs/1903.11508 (visual)
Differs from the source: measures the tokenization, not a model's answers.
Cost: a few thousand short encodings.
"""

import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

from jeton.audit.contract import MetricResult, Witness
from jeton.audit.encoding import encode_all
from jeton.audit.evidence import AuditInput
from jeton.errors import ConfigError

_LOOKALIKES = str.maketrans("aceopxyABEHIKMOPTX", "асеорхуАВЕНІКМОРТХ")
_LEET = str.maketrans("aeiostAEIOST", "431057431057")
_MIN_LETTERS = 4


def _swap(word: str, at: int) -> str:
    return word[:at] + word[at + 1] + word[at] + word[at + 2 :]


def _drop(word: str, at: int) -> str:
    return word[:at] + word[at + 1 :]


def _double(word: str, at: int) -> str:
    return word[:at] + word[at] + word[at:]


def _upper(word: str, at: int) -> str:
    return word.upper()


def _accent(word: str, at: int) -> str:
    return word[: at + 1] + "\u0301" + word[at + 1 :]


def _lookalike(word: str, at: int) -> str:
    return word.translate(_LOOKALIKES)


def _leet(word: str, at: int) -> str:
    return word.translate(_LEET)


_PERTURBATIONS: dict[str, Callable[[str, int], str]] = {
    "letters swapped": _swap,
    "letter dropped": _drop,
    "letter doubled": _double,
    "capitals": _upper,
    "accent added": _accent,
    "look-alikes": _lookalike,
    "digits for letters": _leet,
}


@dataclass(frozen=True, slots=True)
class Sensitivity:
    """Tokens of perturbed words over tokens of the words, on average over the perturbations.

    Attributes:
        num_words: Distinct words drawn from the text.
    """

    num_words: int = 400

    name: ClassVar[str] = "sensitivity"
    needs: ClassVar[tuple[str, ...]] = ("texts",)
    is_default: ClassVar[bool] = True
    is_per_token: ClassVar[bool] = False

    def __post_init__(self) -> None:
        if self.num_words < 1:
            raise ConfigError(f"num_words must be at least 1, got {self.num_words}")

    def measure(self, given: AuditInput) -> MetricResult:
        """Return the mean ratio; None when the text has no words of four letters."""
        title = "Growth under typos and look-alikes"
        words = draw_words(given, self.num_words)
        if not words:
            return MetricResult(self.name, title, None, detail="the text has no words of 4 letters")
        generator = random.Random(given.seed)
        plain = _num_tokens(given, words)
        groups, witnesses = {}, []
        for name, perturb in _PERTURBATIONS.items():
            changed = [perturb(word, generator.randrange(1, len(word) - 1)) for word in words]
            after = _num_tokens(given, changed)
            groups[name] = sum(after) / sum(plain)
            worst = max(range(len(words)), key=lambda i: (after[i] - plain[i], -i))
            shown = f"{name}: {changed[worst]} has {after[worst]} tokens, not {plain[worst]}"
            witnesses.append(Witness(None, words[worst], shown))
        value = sum(groups.values()) / len(groups)
        hardest = max(groups, key=lambda name: (groups[name], name))
        return MetricResult(
            name=self.name,
            title=title,
            value=value,
            unit="ratio",
            is_lower_better=True,
            detail=f"over {len(words)} words; hardest: {hardest}, {groups[hardest]:.2f} times",
            groups=groups,
            witnesses=witnesses,
        )


def draw_words(given: AuditInput, count: int) -> list[str]:
    """Return distinct alphabetic words of the text, drawn with the input's seed."""
    words = sorted(
        {
            word
            for documents in given.texts.values()
            for document in documents
            for word in document.split()
            if len(word) >= _MIN_LETTERS and word.isalpha()
        }
    )
    if len(words) <= count:
        return words
    return sorted(random.Random(given.seed).sample(words, count))


def _num_tokens(given: AuditInput, words: list[str]) -> list[int]:
    return [len(ids) for ids in encode_all(given.vocabulary, [f"a {word}" for word in words])]
