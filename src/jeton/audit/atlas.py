"""An atlas: many tokenizers over the languages of one parallel text."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from importlib.resources import files
from typing import Any

import numpy as np

from jeton.audit.evidence import AuditInput, reference_of
from jeton.audit.statistics import gini
from jeton.core.progress import NO_PROGRESS, Progress
from jeton.core.vocabulary import Vocabulary
from jeton.errors import ConfigError, InputError

SCHEMA_VERSION = 2


@dataclass(frozen=True, slots=True)
class AtlasRow:
    """One tokenizer.

    Attributes:
        tokenizer: Its name.
        vocab_size: Ids that it knows.
        bytes_per_token: Over all languages.
        median_premium: Over the languages but the reference.
        worst_language: Where the premium is largest.
        gini: Of the token counts of the languages.
        premiums: By language, without the reference.
        bytes_per_token_of: By language.
        tokens: By language.
        unreadable: Languages in which more than 1% of the tokens are unknown tokens: their text is
            lost, so that they have no premium and few tokens mean nothing.
        is_shipped: Whether the figures came with jeton, and were not measured now.
    """

    tokenizer: str
    vocab_size: int
    bytes_per_token: float
    median_premium: float
    worst_language: str
    gini: float
    premiums: dict[str, float]
    bytes_per_token_of: dict[str, float]
    tokens: dict[str, int]
    unreadable: list[str] = field(default_factory=list)
    is_shipped: bool = False


@dataclass(frozen=True, slots=True)
class AtlasResult:
    """Tokenizers by languages, the fairest first of those that can write the most languages.

    Attributes:
        schema_version: Of this JSON.
        reference: Language that premiums are relative to.
        languages: Codes in sorted order.
        rows: One per tokenizer.
        names: Of languages, where they are known.
        text: What was measured on, with its licence.
    """

    schema_version: int
    reference: str
    languages: list[str]
    rows: list[AtlasRow]
    names: dict[str, str] = field(default_factory=dict)
    text: str = ""


def atlas(
    vocabularies: Sequence[Vocabulary],
    texts: Mapping[str, Sequence[str]],
    *,
    reference: str = "",
    known: bool = False,
    progress: Progress = NO_PROGRESS,
) -> AtlasResult:
    """Measure every tokenizer on every language of a parallel text.

    Args:
        vocabularies: At least one.
        texts: Language -> passages; passage i says the same in every language.
        reference: Language that premiums are relative to; English, else the first, when empty.
        known: Add the shipped figures of well-known tokenizers, if the text is the one that they
            were counted on.
        progress: Bars.

    Raises:
        InputError: there is no tokenizer, or fewer than two languages with text.
        ConfigError: the shipped figures are of another text.
    """
    texts = {name: passages for name, passages in texts.items() if any(passages)}
    if not vocabularies or len(texts) < 2:
        raise InputError(
            f"an atlas needs tokenizers and at least two languages; "
            f"got {len(vocabularies)} and {len(texts)}"
        )
    sizes = {name: sum(len(p.encode()) for p in texts[name]) for name in sorted(texts)}
    rows = []
    base = AuditInput(vocabularies[0], texts, reference=reference).reference_group
    for vocabulary in progress.track(vocabularies, len(vocabularies), "atlas", "tokenizer"):
        given = AuditInput(vocabulary, texts, is_parallel=True, reference=reference)
        tokens = {name: group.num_tokens for name, group in given.groups.items()}
        lost = given.unreadable_groups
        rows.append(_row(vocabulary.name, vocabulary.vocab_size, sizes, tokens, base, lost))
    shipped = _read_shipped()
    names = {name: shipped["languages"].get(name, {}).get("name", "") for name in sizes}
    if known:
        taken = {row.tokenizer for row in rows}
        rows += [row for row in _shipped_rows(shipped, sizes, base) if row.tokenizer not in taken]
    num = sum(sizes.values())
    return _result(rows, base, sizes, names, f"{num:,} bytes of your text")


def shipped_atlas(reference: str = "") -> AtlasResult:
    """Return the figures that come with jeton: well-known tokenizers over the UDHR.

    Raises:
        ConfigError: there are no figures for the reference language.
    """
    shipped = _read_shipped()
    sizes = {name: row["bytes"] for name, row in shipped["languages"].items()}
    if reference and reference not in sizes:
        raise ConfigError(
            f"the shipped figures have no language {reference!r}; "
            f"they have: {', '.join(sorted(sizes))}"
        )
    base = reference or reference_of(sizes)
    names = {name: row["name"] for name, row in shipped["languages"].items()}
    return _result(_shipped_rows(shipped, sizes, base), base, sizes, names, shipped["text"])


def _result(
    rows: list[AtlasRow], base: str, sizes: Mapping[str, int], names: dict[str, str], text: str
) -> AtlasResult:
    rows = sorted(rows, key=lambda row: (len(row.unreadable), row.gini, row.tokenizer))
    return AtlasResult(SCHEMA_VERSION, base, sorted(sizes), rows, names, text)


def _read_shipped() -> dict[str, Any]:
    content = files("jeton.audit").joinpath("udhr.json").read_text(encoding="utf-8")
    shipped: dict[str, Any] = json.loads(content)
    return shipped


def _shipped_rows(shipped: dict[str, Any], sizes: Mapping[str, int], base: str) -> list[AtlasRow]:
    counted_on = {name: row["bytes"] for name, row in shipped["languages"].items()}
    strange = sorted(name for name, size in sizes.items() if counted_on.get(name) != size)
    if strange:
        raise ConfigError(
            f"the shipped figures were counted on another text: {', '.join(strange[:5])} differ",
            hint="they are for the UDHR text that docs/audit.md names; leave --known out",
        )
    order = list(shipped["languages"])
    rows = []
    for name, row in shipped["tokenizers"].items():
        counts = dict(zip(order, row["tokens"], strict=True))
        tokens = {language: counts[language] for language in sorted(sizes)}
        lost = [language for language in row["unreadable"] if language in sizes]
        made = _row(name, row["vocab_size"], sizes, tokens, base, lost)
        rows.append(replace(made, is_shipped=True))
    return rows


def _row(
    name: str,
    vocab_size: int,
    sizes: Mapping[str, int],
    tokens: dict[str, int],
    base: str,
    unreadable: list[str],
) -> AtlasRow:
    if tokens[base] == 0:
        raise InputError(f"{name} makes no tokens of the text of {base}")
    lost = {*unreadable, base}
    premiums = {n: count / tokens[base] for n, count in tokens.items() if n not in lost}
    if not premiums:
        raise InputError(f"{name} can write no language but {base}, so there is nothing to compare")
    return AtlasRow(
        tokenizer=name,
        vocab_size=vocab_size,
        bytes_per_token=sum(sizes.values()) / sum(tokens.values()),
        median_premium=float(np.median(list(premiums.values()))),
        worst_language=max(premiums, key=lambda n: (premiums[n], n)),
        gini=gini(np.array(list(tokens.values()), dtype=np.int64)),
        premiums=premiums,
        bytes_per_token_of={n: sizes[n] / count for n, count in tokens.items() if count},
        tokens=tokens,
        unreadable=unreadable,
    )
