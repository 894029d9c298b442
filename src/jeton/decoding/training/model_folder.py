"""Write a draft model as an ordinary model folder, with the tokenizer of its target."""

import copy
import shutil
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedModel

from jeton.core.run import disk_errors
from jeton.errors import ConfigError
from jeton.lm.load import LanguageModel, quiet_transformers

_TOKENIZER = ("tokenizer*", "special_tokens_map.json", "vocab.*", "merges.txt", "*.model")


def save_model(
    model: PreTrainedModel, tokenizer: Path | None, target: LanguageModel, folder: Path
) -> None:
    """Write a folder in the target's dtype, whole or not at all.

    Args:
        model: In float32; not changed.
        tokenizer: A folder with the tokenizer's files; None takes the target's.
        target: Whose vocabulary it is.
        folder: To write; one that is there is replaced.
    Raises:
        ConfigError: the target was made in memory, so that its tokenizer has no files.
    """
    source = tokenizer or target.path
    if source is None:
        raise ConfigError(
            f"{target.name} has no folder from which its tokenizer could be copied",
            hint="save the target with its tokenizer and load it from there",
        )
    partial = folder.with_name(folder.name + ".partial")
    dtype = torch.bfloat16 if target.dtype == torch.float32 else target.dtype
    with disk_errors(folder):
        shutil.rmtree(partial, ignore_errors=True)
        with quiet_transformers():
            twin: Any = copy.deepcopy(model)
            twin.to(dtype).save_pretrained(partial)
        for pattern in _TOKENIZER:
            for file in sorted(source.glob(pattern)):
                shutil.copyfile(file, partial / file.name)
        shutil.rmtree(folder, ignore_errors=True)
        partial.rename(folder)
