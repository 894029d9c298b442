"""LoRA healing: low-rank adapters on every linear layer, the embeddings in full, merged at the end.

Source: Hu et al. 2021, "LoRA: Low-Rank Adaptation of Large Language Models",
https://arxiv.org/abs/2106.09685, with trained embeddings as ChocoLlama uses it
(https://arxiv.org/abs/2412.07633: r = 8, alpha = 32, all linear layers); adapters by PEFT.
Differs from the source: no dropout, so that a resumed run is the same run.
Cost: one training step per batch; optimizer state for the adapters and the embeddings only.
"""

import contextlib
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from jeton.errors import ConfigError, MissingExtraError, UnsupportedModelError
from jeton.transfer.contract import HealInput, HealResult
from jeton.transfer.training import (
    Group,
    LanguageModelLoss,
    TrainingOptions,
    embedding_parameters,
    train,
)


@dataclass(frozen=True, slots=True)
class Lora(TrainingOptions):
    """Options, those of `TrainingOptions` and:

    Attributes:
        lr_body: Peak learning rate of the adapters.
        r: Rank of the adapters.
        alpha: Their scale is alpha / r.
    """

    lr_body: float = 2e-3
    r: int = 8
    alpha: int = 32

    def __post_init__(self) -> None:
        TrainingOptions.__post_init__(self)
        if min(self.r, self.alpha) < 1:
            raise ConfigError(f"r and alpha must be 1 or more, got {self.r}, {self.alpha}")

    def heal(self, inputs: HealInput) -> HealResult:
        """Train adapters and embeddings of `inputs.model` in place and merge them; see `Healer`.

        Raises:
            MissingExtraError: PEFT is not installed.
        """
        with _adapted(inputs.model, self, inputs.seed) as adapters:
            groups = [
                Group(embedding_parameters(inputs.model), self.lr_embeddings),
                Group(adapters, self.lr_body),
            ]
            return train(self, inputs, LanguageModelLoss(self, inputs.model, groups))


@contextlib.contextmanager
def _adapted(model: Any, options: Lora, seed: int) -> Iterator[list[Tensor]]:
    """Put adapters into a model; on the way out they are merged, or taken away by an error."""
    try:
        import peft
    except ImportError as error:
        raise MissingExtraError(
            "the healer lora needs the package peft", hint="pip install 'jeton[train]'"
        ) from error
    flags = {name: p.requires_grad for name, p in model.named_parameters()}
    config = peft.LoraConfig(
        r=options.r, lora_alpha=options.alpha, lora_dropout=0.0, target_modules="all-linear"
    )
    with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about layers that are stored transposed
        torch.manual_seed(seed)
        try:
            wrapped = peft.get_peft_model(model, config)
        except ValueError as error:
            raise UnsupportedModelError(
                f"PEFT has no adapters for {type(model).__name__}: {error}",
                hint="use --heal cross_entropy",
            ) from error
    try:
        yield [p for name, p in model.named_parameters() if "lora_" in name]
    except BaseException:
        wrapped.unload()
        _restore(model, flags)
        raise
    wrapped.merge_and_unload()
    _restore(model, flags)


def _restore(model: Any, flags: dict[str, bool]) -> None:
    """Leave no trace of PEFT but the weights."""
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(flags[name])
    for attribute in ("peft_config", "_hf_peft_config_loaded"):
        if attribute in vars(model):
            delattr(model, attribute)
