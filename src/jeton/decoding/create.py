"""Drafters and verifiers by name."""

from collections.abc import Mapping
from typing import Any

from jeton.decoding.contract import Drafter, Sampling, Verifier
from jeton.decoding.registry import DRAFTERS, VERIFIERS
from jeton.lm.cost import CostTable

_DRAFTING_S = 1e-4  # Python's part of a step with a draft, measured on the project's machine


def default_verifier(sampling: Sampling) -> Verifier:
    """Return greedy verification at temperature 0, seed-exact sampling otherwise."""
    return create_verifier("greedy" if sampling.temperature == 0 else "seed_exact", sampling)


def create_drafter(
    name: str, options: Mapping[str, Any] | None = None, *, cost: CostTable | None = None
) -> Drafter:
    """Return a drafter by name; several names joined by "+" are merged.

    Args:
        name: Of the registry, or several joined by "+".
        options: Fields of the drafter.
        cost: Of the target's forwards, for drafters that weigh it.

    Example:
        >>> create_drafter("lookahead+aded").drafters
        'lookahead+aded'
    """
    given: dict[str, Any] = dict(options or {})
    if "+" in name:
        given = {"drafters": name, **given}
        name = "merge"
    if name == "auto" and cost is not None:
        one = cost.seconds_for(1)
        given.setdefault("node_cost", max(0.0, cost.ratio(9) - 1.0) / 8)
        given.setdefault("overhead", _DRAFTING_S / one if one > 0 else 0.0)
    drafter: Drafter = DRAFTERS.create(name, given)
    return drafter


def create_verifier(
    name: str, sampling: Sampling, options: Mapping[str, Any] | None = None
) -> Verifier:
    """Return a verifier by name, with the seed of the sampling where it samples."""
    is_sampler = VERIFIERS.load(name).is_sampler  # type: ignore[attr-defined]
    seed = {"seed": sampling.seed} if is_sampler else {}
    verifier: Verifier = VERIFIERS.create(name, {**seed, **(options or {})})
    return verifier


def source_names(name: str, drafter: Drafter | None) -> list[str]:
    """Return the names that the `source` of a drafter's nodes stands for.

    Example:
        >>> source_names("lookahead+aded", None), source_names("rest", None)
        (['lookahead', 'aded'], ['rest'])
    """
    joined = getattr(drafter, "drafters", None) or name
    return [part.strip() for part in str(joined).split("+")]
