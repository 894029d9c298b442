"""BPE-dropout: encode with each merge left out by chance.

Source: Provilkov et al. 2020, https://arxiv.org/abs/1910.13267, algorithm 1: at each step every
possible merge is dropped with probability p, and the one of the lowest rank that is left applied.
Differs from the source: starts from ids; the text between two special tokens is cut into pretokens
again, and merged over its tokens alone where that cannot be done exactly.
Cost: a pass over the pairs of a piece for each of its merges, like the paper's.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from jeton.core.encode import byte_level_to_bytes
from jeton.core.vocabulary import Vocabulary
from jeton.errors import ConfigError
from jeton.learn.byte_level import check_byte_level, start_from
from jeton.learn.segmentation import Segmentation
from jeton.learn.splits import checked, reserved_ids


@dataclass(frozen=True, slots=True)
class BpeDropout:
    """Encoding with merges left out by chance.

    Attributes:
        dropout: Chance that a possible merge is left out at one step; 1 gives single bytes.
    """

    dropout: float = 0.1

    def __post_init__(self) -> None:
        if not 0 <= self.dropout <= 1:
            raise ConfigError(f"dropout must lie between 0 and 1, got {self.dropout}")

    def segment(
        self,
        vocabulary: Vocabulary,
        documents: Sequence[Sequence[int] | NDArray[np.int64]],
        seed: int = 0,
    ) -> Segmentation:
        """Return the documents encoded anew; a vocabulary other than byte-level BPE is refused."""
        check_byte_level(vocabulary, "bpe_dropout")
        start = start_from(vocabulary)
        ranks = {(a, b): (rank, product) for rank, (a, b, product) in enumerate(start.rules)}
        rng = np.random.default_rng(seed)
        reserved = reserved_ids(vocabulary)
        tokenizer = Tokenizer.from_str(vocabulary.tokenizer_json or "")
        result = []
        for document in checked(documents, vocabulary.vocab_size):
            out: list[int] = []
            run: list[int] = []
            for token_id in [*document.tolist(), -1]:
                if token_id >= 0 and token_id not in reserved:
                    run.append(token_id)
                    continue
                for piece in _pieces([vocabulary.tokens[i] for i in run], tokenizer):
                    symbols = [int(start.byte_ids[byte]) for byte in piece]
                    out += self._merged(symbols, ranks, rng)
                run = []
                if token_id >= 0:
                    out.append(token_id)
            result.append(np.array(out, dtype=np.int64))
        return Segmentation(result)

    def _merged(
        self,
        symbols: list[int],
        ranks: dict[tuple[int, int], tuple[int, int]],
        rng: np.random.Generator,
    ) -> list[int]:
        """Apply, step by step, the lowest of the merges that were not dropped."""
        while True:
            found = [(ranks[p], i) for i, p in enumerate(pairwise(symbols)) if p in ranks]
            if self.dropout:
                drawn = rng.random(len(found))
                found = [f for f, value in zip(found, drawn, strict=True) if value >= self.dropout]
            if not found:
                return symbols
            (_, product), at = min(found)
            symbols[at : at + 2] = [product]


def _pieces(tokens: list[bytes], tokenizer: Any) -> list[bytes]:
    """Return the pretokens of a run of tokens; the tokens themselves where that is not exact."""
    data = b"".join(tokens)
    pre_tokenizer = tokenizer.pre_tokenizer
    try:
        text = data.decode()
    except UnicodeDecodeError:
        return tokens
    if tokenizer.normalizer is not None or pre_tokenizer is None or not text:
        return tokens
    found = [byte_level_to_bytes(piece) for piece, _ in pre_tokenizer.pre_tokenize_str(text)]
    return found if b"".join(found) == data else tokens
