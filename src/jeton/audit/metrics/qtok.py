"""Qtok: how well the vocabulary covers the characters and the words of each language.

Source: Chelombitko et al. 2024, Qtok, https://arxiv.org/abs/2410.12989 (coverage, completeness)
Differs from the source: both are weighted by use in the text given, so that no external word
    lists are needed.
Cost: one encoding of the distinct characters and words.
"""

from collections import Counter
from dataclasses import dataclass
from typing import ClassVar

from jeton.audit.contract import MetricResult, Witness
from jeton.audit.encoding import encode_all
from jeton.audit.evidence import AuditInput
from jeton.errors import ConfigError


@dataclass(frozen=True, slots=True)
class Qtok:
    """Coverage: share of the characters of the text that are a token by themselves.

    Attributes:
        max_words: At most so many of the most frequent words of a group count for completeness.
    """

    max_words: int = 2000

    name: ClassVar[str] = "qtok"
    needs: ClassVar[tuple[str, ...]] = ("texts",)
    is_default: ClassVar[bool] = False
    is_per_token: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if self.max_words < 1:
            raise ConfigError(f"max_words must be at least 1, got {self.max_words}")

    def measure(self, given: AuditInput) -> MetricResult:
        """Return coverage over all texts; `groups` has it per group, witnesses completeness."""
        characters = {
            name: Counter(c for document in given.texts[name] for c in document if not c.isspace())
            for name in sorted(given.texts)
        }
        known = {t for t in given.vocabulary.tokens if 0 < len(t) <= 4}
        groups, witnesses = {}, []
        covered = total = 0
        for name, counts in characters.items():
            whole = sum(n for c, n in counts.items() if c.encode() in known)
            covered, total = covered + whole, total + counts.total()
            if counts.total():
                groups[name] = whole / counts.total()
                complete = self._completeness(given, name)
                detail = f"coverage {groups[name]:.1%}, {complete:.1%} of words are one token"
                witnesses.append(Witness(None, name, detail))
        witnesses.sort(key=lambda w: (groups[w.token], w.token))
        return MetricResult(
            name=self.name,
            title="Characters with a token of their own",
            value=covered / total if total else None,
            unit="share",
            is_lower_better=False,
            detail=f"{covered:,} of {total:,} characters" if total else "the text is white space",
            groups=groups,
            witnesses=witnesses[:20],
        )

    def _completeness(self, given: AuditInput, name: str) -> float:
        """Return the share of a group's words, by use, that are one token after a space."""
        words = Counter(w for document in given.texts[name] for w in document.split())
        top = sorted(words.items(), key=lambda item: (-item[1], item[0]))[: self.max_words]
        alone = len(given.vocabulary.encode_lossy("a"))
        encodings = encode_all(given.vocabulary, [f"a {word}" for word, _ in top])
        whole = sum(n for (_, n), ids in zip(top, encodings, strict=True) if len(ids) == alone + 1)
        return whole / max(1, sum(n for _, n in top))
