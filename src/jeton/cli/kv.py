"""What the verbs share about cache policies: reading their options, running under one."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from jeton.cli.common import options_of
from jeton.errors import ConfigError

if TYPE_CHECKING:
    from jeton.kv.contract import CachePolicy
    from jeton.lm.load import LanguageModel
    from jeton.lm.runner import Runner


def policy_of(name: str, budget: int, options: dict[str, str]) -> "CachePolicy | None":
    """Return the policy that was asked for, checked before a model is loaded.

    Args:
        name: Of the registry; "" for none.
        budget: Tokens kept or attended; 0 takes the policy's default.
        options: `{"policy.field": value}` of this policy.
    Raises:
        UnknownMethodError: there is no such policy.
        ConfigError: a budget without a policy, or a value that the policy refuses.
    """
    if not name:
        if budget:
            raise ConfigError("--budget is given without --kv", hint="name a policy with --kv")
        return None
    from jeton.kv.registry import create_policy

    return create_policy(name, budget=budget or None, options=options_of(name, options))


@contextmanager
def runner_under(lm: "LanguageModel", policy: "CachePolicy | None") -> Iterator["Runner | None"]:
    """Yield a runner whose cache obeys a policy; None without one."""
    if policy is None:
        yield None
        return
    from jeton.kv.attached import attach
    from jeton.lm.runner import Runner

    with attach(lm.model, policy) as attached:
        yield Runner(lm.model, cache=attached.cache())
