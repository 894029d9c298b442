"""Count the pretokens of texts, as the tokenizer itself cuts them."""

import json
from collections import Counter
from collections.abc import Sequence

from tokenizers import Tokenizer

from jeton.core.encode import byte_level_to_bytes
from jeton.core.vocabulary import ModelKind, Vocabulary
from jeton.errors import UnsupportedModelError


def can_count_pretokens(vocabulary: Vocabulary) -> bool:
    """Return whether the vocabulary is a byte-level BPE with a tokenizer.json."""
    is_byte_level = vocabulary.model_kind is ModelKind.BYTE_LEVEL_BPE
    return is_byte_level and vocabulary.tokenizer_json is not None


def count_pretokens(vocabulary: Vocabulary, texts: Sequence[str]) -> Counter[bytes]:
    """Return how often each pretoken occurs.

    Raises:
        UnsupportedModelError: the vocabulary is no byte-level BPE with a tokenizer.json.
    """
    if not can_count_pretokens(vocabulary):
        raise UnsupportedModelError(
            f"{vocabulary.name} is {vocabulary.model_kind.value}; pretokens are counted for "
            f"byte-level BPE with a tokenizer.json"
        )
    document = {
        "version": "1.0",
        "pre_tokenizer": vocabulary.pre_tokenizer,
        "model": {"type": "BPE", "vocab": {}, "merges": []},
    }
    cutter = Tokenizer.from_str(json.dumps(document)).pre_tokenizer
    counts: Counter[str] = Counter()
    for text in texts:
        counts.update(piece for piece, _ in cutter.pre_tokenize_str(text))
    return Counter({byte_level_to_bytes(piece): count for piece, count in counts.items()})
