"""Every method of every family in one list: for `jeton methods` and the generated papers page."""

from dataclasses import asdict
from typing import Any

from jeton.audit.registry import METRICS
from jeton.core.registry import Registry
from jeton.decoding.registry import DRAFTERS, VERIFIERS
from jeton.decoding.training.registry import DRAFT_TRAINERS
from jeton.kv.registry import POLICIES
from jeton.learn.registry import LEARNERS, SEGMENTERS
from jeton.transfer.registry import HEALERS, INITIALIZERS, RECIPES

FAMILIES: tuple[Registry, ...] = (
    LEARNERS,
    SEGMENTERS,
    METRICS,
    INITIALIZERS,
    HEALERS,
    RECIPES,
    DRAFTERS,
    VERIFIERS,
    DRAFT_TRAINERS,
    POLICIES,
)


def all_rows() -> list[dict[str, Any]]:
    """Return one flat dict per built-in method, in the order of the families, then by name."""
    rows = []
    for registry in FAMILIES:
        for name in sorted(registry.rows):
            row = asdict(registry.rows[name])
            paper = row.pop("paper")
            rows.append({"family": registry.family, "name": name, **row, **paper})
    return rows
