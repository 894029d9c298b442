"""Make sure that `AutoTokenizer` gives a written folder the ids of its tokenizer.json.

For some model types (qwen2 and phi3 among them) transformers 5 takes no notice of the class that
tokenizer_config.json names: it rebuilds the model family's own tokenizer from the vocabulary and
merges, with the family's own normalizer and pre-tokenizer. A vocabulary that was learned with
another pre-tokenizer would be cut into other tokens than the model was healed on. An `auto_map`
beside the class switches that off; the module that it names is only read where the user trusts the
folder's code, and holds nothing but an import.
"""

import json
import warnings
from pathlib import Path

from tokenizers import Tokenizer
from transformers import AutoTokenizer

from jeton.lm.load import quiet_transformers

PROBE = "def f(x_1):\n    return 12345 + x.y's\n\n\tThe  end of the é-line, 日本\r\n   of 3 words "
_MODULE = "tokenization_file"
_SOURCE = '''"""The tokenizer of this folder is its tokenizer.json and nothing else."""

from transformers import PreTrainedTokenizerFast as FileTokenizer

__all__ = ["FileTokenizer"]
'''


def follow_tokenizer_json(folder: Path) -> None:
    """Change a folder's tokenizer_config.json where `AutoTokenizer` departs from tokenizer.json.

    Where that does not help, a warning says so.
    """
    if _agrees(folder):
        return
    path = folder / "tokenizer_config.json"
    config = json.loads(path.read_text(encoding="utf-8"))
    config["tokenizer_class"] = "PreTrainedTokenizerFast"
    config["auto_map"] = {"AutoTokenizer": [None, f"{_MODULE}.FileTokenizer"]}
    path.write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
    (folder / f"{_MODULE}.py").write_text(_SOURCE, encoding="utf-8")
    if not _agrees(folder):
        warnings.warn(
            "AutoTokenizer gives other ids than tokenizer.json for this type of model; load the "
            "tokenizer with PreTrainedTokenizerFast.from_pretrained",
            stacklevel=2,
        )


def _agrees(folder: Path) -> bool:
    """Whether both give the same ids for a text with much in it."""
    given = Tokenizer.from_file(str(folder / "tokenizer.json"))
    with quiet_transformers():
        loaded = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    ids: list[int] = loaded(PROBE, add_special_tokens=False)["input_ids"]
    return ids == given.encode(PROBE, add_special_tokens=False).ids
