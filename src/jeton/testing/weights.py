"""Random weights for the drafters that have trained ones, fit for the models of this package."""

import torch

from jeton.decoding.acceptance_head import AcceptanceHead
from jeton.decoding.early_exit import shallow_model
from jeton.decoding.heads import Heads
from jeton.decoding.weights import Weights
from jeton.lm.load import LanguageModel

_HIDDEN, _ROWS = 32, 64  # of the tiny models


def _randomize(module: torch.nn.Module, seed: int, scale: float) -> None:
    generator = torch.Generator().manual_seed(seed)
    for parameter in module.parameters():
        parameter.data.normal_(0.0, scale, generator=generator)


def random_heads(kind: str) -> Weights:
    """Return heads for all rows of a tiny model; padded rows are among those they may guess."""
    heads = Heads(_HIDDEN, 3, 16, _ROWS, sees_tokens=kind == "hydra")
    _randomize(heads, 2, 0.3)
    heads.vocabulary = torch.arange(_ROWS)
    sizes = {"hidden_size": _HIDDEN, "num_embeddings": _ROWS, "num_heads": 3, "width": 16}
    return Weights(kind, sizes, heads.state_dict())


def untrained_adapter(lm: LanguageModel) -> Weights:
    """Return the adapter of Kangaroo before any training."""
    _, adapter = shallow_model(lm.model, 1)
    sizes = {"hidden_size": _HIDDEN, "num_embeddings": _ROWS, "num_layers": 1}
    return Weights("kangaroo", sizes, adapter.state_dict())


def random_acceptance_head() -> Weights:
    """Return a head of SpecDec++ for a tiny draft model."""
    head = AcceptanceHead(_HIDDEN, 1)
    _randomize(head, 3, 0.5)
    sizes = {"hidden_size": _HIDDEN, "num_embeddings": _ROWS, "num_blocks": 1}
    return Weights("specdec_pp", sizes, head.state_dict())
