"""Trained parts of drafters and verifiers: a folder of config.json and model.safetensors.

A part belongs to one target. It is found in the folder that an option names, or in the folder of
its kind inside the target's own folder, so that a model travels with its drafts.
"""

import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import PreTrainedModel

from jeton.core.run import disk_errors
from jeton.errors import (
    CheckpointError,
    ConfigError,
    InputError,
    TokenizerMismatchError,
    UnsupportedModelError,
)
from jeton.lm.runner import num_embeddings_of

SCHEMA_VERSION = 1
_CONFIG, _TENSORS = "config.json", "model.safetensors"


@dataclass(frozen=True, eq=False)
class Weights:
    """What a training run made.

    Attributes:
        kind: Name of the drafter or verifier that reads it.
        config: Sizes and settings, `hidden_size` and `num_embeddings` of the target among them.
        tensors: By name.
    """

    kind: str
    config: Mapping[str, Any]
    tensors: Mapping[str, Tensor]

    def number(self, name: str) -> int:
        """Return a whole number of the configuration.

        Raises:
            CheckpointError: it is missing, or no whole number.
        """
        value = self.config.get(name)
        if not isinstance(value, int) or isinstance(value, bool):
            raise CheckpointError(
                f"config.json of the {self.kind} weights has {name} = {value!r}, no whole number",
                hint="train them again with jeton draft train",
            )
        return value


def target_sizes(model: PreTrainedModel) -> dict[str, int]:
    """Return the sizes by which weights are matched with a target.

    Example:
        >>> from jeton.testing.models import tiny_model
        >>> target_sizes(tiny_model("llama"))
        {'hidden_size': 32, 'num_embeddings': 64}
    """
    config = model.config.get_text_config(decoder=True)
    return {"hidden_size": int(config.hidden_size), "num_embeddings": num_embeddings_of(model)}


def save_weights(folder: Path, weights: Weights) -> None:
    """Write a folder, whole or not at all; one that is there is replaced."""
    partial = folder.with_name(folder.name + ".partial")
    document = {"schema_version": SCHEMA_VERSION, "kind": weights.kind, **weights.config}
    with disk_errors(folder):
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        tensors = {name: tensor.detach().contiguous() for name, tensor in weights.tensors.items()}
        save_file(tensors, partial / _TENSORS, metadata={"format": "pt"})
        (partial / _CONFIG).write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
        shutil.rmtree(folder, ignore_errors=True)
        partial.rename(folder)


def load_weights(folder: Path, kind: str) -> Weights:
    """Read a folder.

    Raises:
        InputError: there is no such folder, or it holds no weights.
        ConfigError: the weights are of another kind.
        CheckpointError: a file is damaged, or of another version.
    """
    if not (folder / _CONFIG).is_file() or not (folder / _TENSORS).is_file():
        raise InputError(
            f"{folder} holds no {kind} weights ({_CONFIG} and {_TENSORS})",
            hint=f"make them: jeton draft train TARGET --text DIR --method {kind} --out DIR",
        )
    try:
        document = json.loads((folder / _CONFIG).read_text(encoding="utf-8"))
        tensors = load_file(folder / _TENSORS)
    except (ValueError, OSError, SafetensorError) as error:
        raise CheckpointError(
            f"the weights in {folder} cannot be read: {error}", hint="copy or train them again"
        ) from error
    if not isinstance(document, dict) or document.get("schema_version") != SCHEMA_VERSION:
        raise CheckpointError(
            f"{folder / _CONFIG} is not of schema version {SCHEMA_VERSION}", hint="train again"
        )
    if document.get("kind") != kind:
        raise ConfigError(
            f"the weights in {folder} are of kind {document.get('kind')!r}, not {kind!r}",
            hint="give the folder of another training run",
        )
    config = {k: v for k, v in document.items() if k not in ("schema_version", "kind")}
    return Weights(kind, config, tensors)


def own_folder(model: PreTrainedModel, kind: str) -> Path | None:
    """Return the folder of this kind inside the model's own folder, None when there is none."""
    if not model.name_or_path:
        return None
    folder = Path(model.name_or_path) / kind
    return folder if (folder / _CONFIG).is_file() else None


def weights_for(model: PreTrainedModel, kind: str, folder: str) -> Weights:
    """Return the weights in a folder, or those that the model brings along.

    Args:
        model: The target.
        kind: Name of the drafter or verifier.
        folder: Empty for the model's own.
    Raises:
        ConfigError: no folder was named and the model brings none.
    """
    path = Path(folder).expanduser() if folder else own_folder(model, kind)
    if path is not None and (path / kind / _CONFIG).is_file():
        path = path / kind  # a training's run folder
    if path is None:
        raise ConfigError(
            f"{kind} needs weights that were trained for this model",
            hint=f"jeton draft train MODEL --text DIR --method {kind} --out DIR, then "
            f"--set {kind}.weights=DIR",
        )
    return load_weights(path, kind)


def check_fits(weights: Weights, model: PreTrainedModel) -> None:
    """Refuse weights of another target.

    Raises:
        UnsupportedModelError: the hidden size differs.
        TokenizerMismatchError: the number of embeddings differs.
    """
    sizes = target_sizes(model)
    hidden, rows = weights.number("hidden_size"), weights.number("num_embeddings")
    if hidden != sizes["hidden_size"]:
        raise UnsupportedModelError(
            f"the {weights.kind} weights are for a hidden size of {hidden}, the model has "
            f"{sizes['hidden_size']}",
            hint="train them for this model: jeton draft train",
        )
    if rows != sizes["num_embeddings"]:
        raise TokenizerMismatchError(
            f"the {weights.kind} weights are for {rows} embeddings, the model has "
            f"{sizes['num_embeddings']}",
            hint="train them for this model: jeton draft train",
        )


def fill(module: Any, weights: Weights) -> None:
    """Load tensors into a module, all of them and no others.

    Raises:
        CheckpointError: names or shapes differ.
    """
    try:
        module.load_state_dict(dict(weights.tensors))
    except RuntimeError as error:
        reason = " ".join(str(error).split())[:200]
        raise CheckpointError(
            f"the {weights.kind} weights do not fit their own config.json: {reason}",
            hint="copy or train them again",
        ) from error
