"""Drafters and verifiers by name."""

from jeton.decoding.contract import Drafter, Sampling, Verifier
from jeton.decoding.registry import DRAFTERS, VERIFIERS


def default_verifier(sampling: Sampling) -> Verifier:
    """Return greedy verification at temperature 0, seed-exact sampling otherwise."""
    return create_verifier("greedy" if sampling.temperature == 0 else "seed_exact", sampling)


def create_drafter(name: str) -> Drafter:
    """Return a drafter by name; several names joined by "+" are merged.

    Example:
        >>> create_drafter("lookahead+aded").drafters
        'lookahead+aded'
    """
    options = {"drafters": name} if "+" in name else None
    drafter: Drafter = DRAFTERS.create("merge" if options else name, options)
    return drafter


def create_verifier(name: str, sampling: Sampling) -> Verifier:
    """Return a verifier by name, with the seed of the sampling where it samples."""
    is_sampler = VERIFIERS.load(name).is_sampler  # type: ignore[attr-defined]
    verifier: Verifier = VERIFIERS.create(name, {"seed": sampling.seed} if is_sampler else None)
    return verifier
