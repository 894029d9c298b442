"""Small vocabularies without a model, and probabilities of texts by plain enumeration."""

import dataclasses
import math
from collections.abc import Callable, Sequence
from itertools import product

import numpy as np
from tokenizers import Tokenizer, decoders, models, pre_tokenizers

from jeton.bytelm.contract import FloatArray
from jeton.bytelm.paths import Paths
from jeton.core.vocabulary import Vocabulary

END_TOKEN = "<end>"
Path = tuple[int, ...]


class TableLM:
    """Next-token probabilities as a function of the path; a `TokenLM` without a model.

    Example:
        >>> table = TableLM(lambda path: [0.5, 0.5])
        >>> table.logprobs([0], 0)
        [array([-0.69314718, -0.69314718])]
    """

    def __init__(self, law: Callable[[Path], Sequence[float] | FloatArray]) -> None:
        self.paths = Paths()
        self._law = law

    def logprobs(self, nodes: Sequence[int], keep: int) -> list[FloatArray]:
        """Return the logprobs after each sequence, float64."""
        return [np.log(self._law(tuple(self.paths.ids(node)))) for node in nodes]


def toy_vocabulary(tokens: Sequence[str], merges: Sequence[tuple[str, str]]) -> Vocabulary:
    """Return byte-level BPE over a few tokens; the last id ends a text.

    Args:
        tokens: ASCII contents by id.
        merges: By rank.
    """
    vocab = {token: i for i, token in enumerate([*tokens, END_TOKEN])}
    tokenizer = Tokenizer(models.BPE(vocab=vocab, merges=list(merges)))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([END_TOKEN])
    vocabulary = Vocabulary.from_tokenizer_json(tokenizer.to_str())
    return dataclasses.replace(vocabulary, eos_token_id=len(tokens))


class BruteForce:
    """Probabilities of short texts by walking every token sequence.

    Example:
        >>> vocabulary = toy_vocabulary(["a", "b", "ab"], [("a", "b")])
        >>> brute = BruteForce(vocabulary, lambda path: np.array([0.4, 0.2, 0.3, 0.1]))
        >>> round(brute.prefix(b"ab"), 10), round(brute.whole(b"a"), 10)
        (0.38, 0.04)
    """

    def __init__(
        self,
        vocabulary: Vocabulary,
        probabilities: Callable[[Path], FloatArray],
        *,
        is_canonical: bool = False,
    ) -> None:
        """Take a law of the next token.

        Args:
            vocabulary: With an end token.
            probabilities: Of each id after a path, shape (vocab_size,).
            is_canonical: Whether next tokens are masked by the tokenizer and renormalised; for
                vocabularies without a pre-tokenizer, where a path alone tells if it is canonical.
        """
        self._vocabulary = vocabulary
        self._probabilities = probabilities
        self._is_canonical = is_canonical

    def next_tokens(self, path: Path) -> FloatArray:
        """Return the probabilities after a path, shape (vocab_size,)."""
        p = np.array(self._probabilities(path), dtype=np.float64)
        if self._is_canonical:
            for token_id, token in enumerate(self._vocabulary.tokens):
                if token and not self.writes((*path, token_id)):
                    p[token_id] = 0.0
        total: FloatArray = p / p.sum()
        return total

    def writes(self, path: Path) -> bool:
        """Whether the tokenizer writes its bytes just like this."""
        return self._vocabulary.encode(self._vocabulary.decode(path)) == list(path)

    def prefix(self, data: bytes) -> float:
        """Return the probability that a text begins with some bytes."""
        return self._walk((), data, is_whole=False)

    def whole(self, data: bytes) -> float:
        """Return the probability that a text is some bytes."""
        return self._walk((), data, is_whole=True)

    def _walk(self, path: Path, rest: bytes, *, is_whole: bool) -> float:
        if not rest and not is_whole:
            return 1.0
        p = self.next_tokens(path)
        if not rest:
            eos = self._vocabulary.eos_token_id
            return float(p[eos]) if eos is not None else 0.0
        found = []
        for token_id, token in enumerate(self._vocabulary.tokens):
            if not token or p[token_id] == 0.0:
                continue
            if rest.startswith(token):
                inner = self._walk((*path, token_id), rest[len(token) :], is_whole=is_whole)
                found.append(float(p[token_id]) * inner)
            elif token.startswith(rest) and not is_whole:
                found.append(float(p[token_id]))
        return math.fsum(found)


def all_texts(alphabet: bytes, max_length: int) -> list[bytes]:
    """Return every text over an alphabet, by length."""
    return [
        bytes(text) for size in range(max_length + 1) for text in product(alphabet, repeat=size)
    ]
