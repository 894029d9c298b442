"""Judge Decoding: keep drafted tokens that a trained head finds right, also unlikely ones. Lossy.

Source: Bachmann et al. 2025, https://arxiv.org/abs/2501.19309, section 4: a linear head on the
target's last hidden state at the drafted token.
Differs from the source: the token that the target itself prefers always holds; trees, in which the
likeliest of the judged siblings is kept.
Cost: one product of the hidden size per drafted token.
"""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from jeton.decoding.contract import COUPLED, Selection, TreeLogits
from jeton.errors import CheckpointError, ConfigError, InputError, UnsupportedModelError
from jeton.lm.tree import TokenTree


@dataclass(frozen=True, slots=True)
class Judge:
    """Options of the verifier.

    Attributes:
        head: Folder with the trained head: `config.json` (kind "judge", hidden_size) and
            `model.safetensors` (`weight`, `bias`).
        threshold: Smallest probability of being right with which a token is kept, in (0, 1].
        weights: Weight (hidden,) and bias (1,) of the head, instead of a folder.
    """

    head: str = ""
    threshold: float = 0.5
    weights: tuple[Tensor, Tensor] | None = None

    is_lossless: ClassVar[bool] = False
    is_sampler: ClassVar[bool | None] = False
    draws: ClassVar[str] = COUPLED
    needs_fixed_draws: ClassVar[bool] = False
    needs_hidden: ClassVar[bool] = True

    _head: tuple[Tensor, Tensor] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if not 0 < self.threshold <= 1:
            raise ConfigError(f"threshold must be in (0, 1], got {self.threshold}")
        if self.weights is None and not self.head:
            raise ConfigError(
                "judge needs a trained head", hint="give its folder with --set judge.head=DIR"
            )
        object.__setattr__(self, "_head", self.weights or load_head(Path(self.head)))

    def select(self, tree: TokenTree, logits: TreeLogits, position: int) -> Selection:
        """Return the path of preferred or well judged tokens, and the argmax after it."""
        scores = self._judge(logits.hidden) if len(tree) > 1 else [0.0]
        path = [0]
        while True:
            wanted = int(logits[path[-1]].argmax())
            children = tree.children(path[-1])
            agreed = [child for child in children if tree.token_ids[child] == wanted]
            fine = agreed or [child for child in children if scores[child] >= self.threshold]
            if not fine:
                return Selection(tuple(path), wanted)
            path.append(max(fine, key=lambda child: (scores[child], -child)))

    def _judge(self, hidden: Tensor | None) -> list[float]:
        """Return per node the probability that its token is right."""
        assert hidden is not None, "declared by needs_hidden"
        weight, bias = self._head
        if hidden.shape[-1] != len(weight):
            raise UnsupportedModelError(
                f"the head judges hidden states of size {len(weight)}, the model's have "
                f"{hidden.shape[-1]}",
                hint="train a head for this model",
            )
        with torch.inference_mode():
            scores = hidden.float() @ weight.to(hidden.device) + bias.to(hidden.device)
        found: list[float] = scores.sigmoid().tolist()
        return found


def load_head(folder: Path) -> tuple[Tensor, Tensor]:
    """Return weight (hidden,) and bias (1,) of a trained head.

    Raises:
        InputError: a file is missing or cannot be read.
        CheckpointError: the folder holds something else.
    """
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        tensors = load_file(folder / "model.safetensors")
    except (OSError, ValueError, SafetensorError) as error:
        raise InputError(
            f"{folder} has no readable head: {error}",
            hint="a head is a folder with config.json and model.safetensors",
        ) from error
    kind = config.get("kind") if isinstance(config, dict) else None
    if kind != "judge" or not {"weight", "bias"} <= set(tensors):
        raise CheckpointError(
            f"{folder} holds a {kind or 'model'!r} with {', '.join(sorted(tensors))}; "
            "a judge has weight and bias"
        )
    weight, bias = tensors["weight"].float().flatten(), tensors["bias"].float().flatten()
    if len(weight) != config.get("hidden_size") or len(bias) != 1:
        raise CheckpointError(
            f"the head in {folder} has {len(weight)} weights and {len(bias)} biases; its "
            f"config.json says hidden_size {config.get('hidden_size')}"
        )
    return weight, bias
