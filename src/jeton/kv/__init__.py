"""Which context tokens are kept or attended: caches and policies, in any model of transformers."""

from importlib import import_module
from typing import Any

_LAZY = {
    "Cache": "jeton.kv.dense",
    "attach": "jeton.kv.attached",
    "create_policy": "jeton.kv.registry",
    "guard_memory": "jeton.kv.memory",
}

__all__ = sorted(_LAZY)


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module 'jeton.kv' has no attribute {name!r}")
    return getattr(import_module(_LAZY[name]), name)


def __dir__() -> list[str]:
    return list(__all__)
