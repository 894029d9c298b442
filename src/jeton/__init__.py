"""jeton: fewer tokens, cheaper tokens, the same bytes. Names load lazily; see `__all__`."""

from importlib import import_module
from typing import Any

__version__ = "0.1.0"

_LAZY = {
    "Vocabulary": "jeton.core.vocabulary",
    "load_vocabulary": "jeton.core.vocabulary",
    "load_model": "jeton.lm.load",
    "Runner": "jeton.lm.runner",
    "TokenTree": "jeton.lm.tree",
    "bits_per_byte": "jeton.lm.bits",
    "generate": "jeton.decoding.generation",
    "RetrofitConfig": "jeton.retrofit.config",
    "JetonError": "jeton.errors",
}

__all__ = sorted([*_LAZY, "__version__"])


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module 'jeton' has no attribute {name!r}")
    return getattr(import_module(_LAZY[name]), name)


def __dir__() -> list[str]:
    return list(__all__)
