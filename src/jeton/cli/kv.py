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
def runner_under(
    lm: "LanguageModel", policy: "CachePolicy | None", *, chunk: int = 512
) -> Iterator["Runner"]:
    """Yield a runner that reads prompts in chunks, and whose cache obeys a policy if there is one.

    Raises:
        ConfigError: memory ran out while a prompt was read under a policy.
    """
    from jeton.lm.runner import Runner

    if policy is None:
        yield Runner(lm.model, prefill_chunk=chunk)
        return
    from jeton.kv.attached import attach

    with attach(lm.model, policy) as attached:
        yield Runner(lm.model, cache=attached.cache(), prefill_chunk=chunk)
