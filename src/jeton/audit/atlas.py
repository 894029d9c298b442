"""An atlas: many tokenizers over the languages of one parallel text."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from jeton.audit.contract import MetricResult
from jeton.audit.evidence import AuditInput
from jeton.audit.registry import METRICS
from jeton.audit.statistics import gini
from jeton.core.progress import NO_PROGRESS, Progress
from jeton.core.vocabulary import Vocabulary
from jeton.errors import InputError

SCHEMA_VERSION = 1


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
        premiums: By language.
        bytes_per_token_of: By language.
    """

    tokenizer: str
    vocab_size: int
    bytes_per_token: float
    median_premium: float
    worst_language: str
    gini: float
    premiums: dict[str, float]
    bytes_per_token_of: dict[str, float]


@dataclass(frozen=True, slots=True)
class AtlasResult:
    """Tokenizers by languages, the fairest tokenizer first."""

    schema_version: int
    reference: str
    languages: list[str]
    rows: list[AtlasRow]


def atlas(
    vocabularies: Sequence[Vocabulary],
    texts: Mapping[str, Sequence[str]],
    *,
    reference: str = "",
    progress: Progress = NO_PROGRESS,
) -> AtlasResult:
    """Measure every tokenizer on every language of a parallel text.

    Args:
        vocabularies: At least one.
        texts: Language -> passages; passage i says the same in every language.
        reference: Language that premiums are relative to; English, else the first, when empty.
        progress: Bars.

    Raises:
        InputError: there is no tokenizer, or fewer than two languages with text.
    """
    if not vocabularies or sum(any(t) for t in texts.values()) < 2:
        raise InputError(
            f"an atlas needs tokenizers and at least two languages; "
            f"got {len(vocabularies)} and {len(texts)}"
        )
    rows = []
    base = ""
    for vocabulary in progress.track(vocabularies, len(vocabularies), "atlas", "tokenizer"):
        given = AuditInput(vocabulary, texts, is_parallel=True, reference=reference)
        base = given.reference_group
        rows.append(_row(given))
    rows.sort(key=lambda row: (row.gini, row.tokenizer))
    return AtlasResult(SCHEMA_VERSION, base, sorted(texts), rows)


def _row(given: AuditInput) -> AtlasRow:
    premium: MetricResult = METRICS.create("premium", {"num_resamples": 1}).measure(given)
    ordered = sorted(premium.groups.values())
    middle = len(ordered) // 2
    median = (ordered[middle] + ordered[-middle - 1]) / 2
    worst = max(premium.groups, key=lambda name: (premium.groups[name], name))
    totals = [group.num_tokens for group in given.groups.values()]
    return AtlasRow(
        tokenizer=given.vocabulary.name,
        vocab_size=given.vocabulary.vocab_size,
        bytes_per_token=given.num_bytes / max(1, given.num_tokens),
        median_premium=median,
        worst_language=worst,
        gini=gini(np.array(totals, dtype=np.int64)),
        premiums=premium.groups,
        bytes_per_token_of={
            name: group.num_bytes / group.num_tokens
            for name, group in given.groups.items()
            if group.num_tokens
        },
    )
