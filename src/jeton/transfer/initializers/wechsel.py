"""WECHSEL: a new token is a mix of the source tokens nearest to it in a space of static vectors.

Source: Minixhofer et al. 2022, "WECHSEL", https://arxiv.org/abs/2112.06598, section 3: a token's
vector is the frequency-weighted sum of the vectors of the words that contain it; its row is the
softmax(cosine / T)-weighted mean of the rows of the k nearest source tokens.
Differs from the source: without files of word vectors they are learned on the user's text, in one
space that needs no alignment; shared tokens are copied; a token that no word contains starts as
the mean of its sub-tokens, where the source draws a random row.
Cost: one pass over the text, and a table of cosines of new against source tokens.
"""

from dataclasses import dataclass
from typing import ClassVar

import torch

from jeton.errors import ConfigError
from jeton.transfer.contract import InitInput, InitResult
from jeton.transfer.matching import match_tokens
from jeton.transfer.rows import Combination, compose
from jeton.transfer.static_vectors import encodable, nearest, ordinary_ids, sample_texts
from jeton.transfer.word_vectors import (
    WordVectors,
    align,
    learn_words,
    read_dictionary,
    read_vectors,
    token_vectors,
)


@dataclass(frozen=True, slots=True)
class Wechsel:
    """Options.

    Attributes:
        neighbors: Source tokens that make a row (k).
        temperature: Of the softmax over cosines (T).
        dim: Columns of vectors that are learned here.
        sample_bytes: Text to learn them from.
        source_vectors: File of word vectors of the source's language, word2vec text format.
        destination_vectors: The same for the destination's language.
        dictionary: File of word pairs that aligns the two; equal words where it is empty.
    """

    neighbors: int = 10
    temperature: float = 0.1
    dim: int = 128
    sample_bytes: int = 4_000_000
    source_vectors: str = ""
    destination_vectors: str = ""
    dictionary: str = ""

    copies_shared: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if self.neighbors < 1 or self.temperature <= 0 or self.dim < 1:
            raise ConfigError("neighbors and dim must be at least 1, temperature above 0")
        if bool(self.source_vectors) != bool(self.destination_vectors):
            raise ConfigError("give source_vectors and destination_vectors, or neither")

    def initialize(self, inputs: InitInput) -> InitResult:
        """Return the destination matrices; see the module's text."""
        matches = match_tokens(inputs.source, inputs.destination)
        new_ids = [i for i, match in enumerate(matches) if not match.is_shared]
        if not new_ids:
            return compose(inputs, matches, {})
        source_words, destination_words = self._words(inputs)
        old = token_vectors(inputs.source, source_words)
        new = token_vectors(inputs.destination, destination_words)
        return compose(inputs, matches, self._mix(inputs, old, new, torch.tensor(new_ids)))

    def _words(self, inputs: InitInput) -> tuple[WordVectors, WordVectors]:
        """Return word vectors of both sides in one space."""
        if self.source_vectors:
            fixed = read_vectors(self.source_vectors)
            pairs = read_dictionary(self.dictionary) if self.dictionary else []
            return fixed, align(fixed, read_vectors(self.destination_vectors), pairs)
        texts = sample_texts(inputs.texts, self.sample_bytes)
        texts = encodable(texts, inputs.source, inputs.destination)
        words = learn_words(texts, dim=self.dim, seed=inputs.seed)
        return words, words

    def _mix(
        self, inputs: InitInput, old: torch.Tensor, new: torch.Tensor, new_ids: torch.Tensor
    ) -> dict[int, Combination]:
        """Return softmax-weighted neighbours of the new tokens that have a vector."""
        keys = ordinary_ids(inputs.source, old)
        new_ids = new_ids[new[new_ids].abs().sum(1) > 0]
        if not len(keys):
            return {}
        cosines, places = nearest(new[new_ids], old[keys], min(self.neighbors, len(keys)))
        weights = (cosines / self.temperature).softmax(1)  # section 3.3
        ids = keys[places]
        return {
            token_id: Combination(chosen, shares)
            for token_id, chosen, shares in zip(
                new_ids.tolist(), ids.tolist(), weights.tolist(), strict=True
            )
        }
