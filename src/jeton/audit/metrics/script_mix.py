"""Script mix: which scripts the vocabulary spends its tokens on.

Source: Chelombitko et al. 2024, Qtok, https://arxiv.org/abs/2410.12989 (classes from the first
    word of the Unicode character name)
Differs from the source: every script is a class of its own; a token counts for the script of
    most of its letters.
Cost: one pass over the vocabulary.
"""

import unicodedata
from collections import Counter
from dataclasses import dataclass
from functools import lru_cache
from typing import ClassVar

from jeton.audit.contract import MetricResult, Witness
from jeton.audit.encoding import readable
from jeton.audit.evidence import AuditInput

_NO_LETTERS = "no letters"
_BROKEN = "pieces of characters"
_ASCII_BUT_LETTERS = bytes(b for b in range(128) if not chr(b).isalpha())
_RENAMED = {"CJK": "HAN"}


@dataclass(frozen=True, slots=True)
class ScriptMix:
    """Share of the text tokens in each script; the value is the share outside the largest one."""

    name: ClassVar[str] = "script_mix"
    needs: ClassVar[tuple[str, ...]] = ()
    is_default: ClassVar[bool] = True
    is_per_token: ClassVar[bool] = True

    def measure(self, given: AuditInput) -> MetricResult:
        """Return the share of tokens with letters that are not of the most common script."""
        tokens = given.vocabulary.tokens
        ids = given.text_ids.tolist()
        mixed = []
        counts: Counter[str] = Counter()
        for token_id in ids:
            token = tokens[token_id]
            if token.isascii():  # most tokens
                counts[_script_of_ascii(token)] += 1
                continue
            scripts = scripts_of(token)
            counts[max(scripts, key=lambda s: (scripts[s], s))] += 1
            if len(scripts) > 1:
                mixed.append(token_id)
        letters = {s: n for s, n in counts.items() if s not in (_NO_LETTERS, _BROKEN)}
        total, most = sum(letters.values()), max(letters.values(), default=0)
        ranked = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
        top = ", ".join(f"{s.lower()} {n / len(ids):.1%}" for s, n in ranked[:5])
        return MetricResult(
            name=self.name,
            title="Tokens outside the main script",
            value=1 - most / total if total else None,
            unit="share",
            detail=f"{top}; {len(mixed):,} tokens mix scripts"
            if total
            else "no token has a letter",
            groups={script.lower(): count / len(ids) for script, count in ranked},
            witnesses=[
                Witness(i, readable(tokens[i]), "letters of two scripts") for i in mixed[:10]
            ],
        )


def scripts_of(token: bytes) -> Counter[str]:
    """Return the letters of a token by script.

    Example:
        >>> scripts_of("aбв".encode())
        Counter({'CYRILLIC': 2, 'LATIN': 1})
    """
    if token.isascii():
        num_letters = len(token.translate(None, _ASCII_BUT_LETTERS))
        return Counter({_script_of_ascii(token): max(1, num_letters)})
    try:
        text = token.decode()
    except UnicodeDecodeError:
        return Counter({_BROKEN: 1})
    found = Counter(script_of(char) for char in text if char.isalpha())
    return found or Counter({_NO_LETTERS: 1})


def _script_of_ascii(token: bytes) -> str:
    return "LATIN" if token.translate(None, _ASCII_BUT_LETTERS) else _NO_LETTERS


@lru_cache(maxsize=65536)
def script_of(char: str) -> str:
    """Return the first word of a character's name, which for letters is the script."""
    name = unicodedata.name(char, "UNNAMED").removeprefix("FULLWIDTH ").removeprefix("HALFWIDTH ")
    first = name.split(" ")[0].split("-")[0]
    return _RENAMED.get(first, first)
