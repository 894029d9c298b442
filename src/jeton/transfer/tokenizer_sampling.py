"""Tokenizers drawn at random, with the text that they were trained on.

Source: Minixhofer et al. 2024, "Zero-Shot Tokenizer Transfer", https://arxiv.org/abs/2405.07883,
section 3.1.
Differs from the source: byte-level BPE or Unigram models of random size, with the source's
pre-tokenizer or with GPT-2's; Unigram scores get no noise.
Cost: about a second of training for each.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from torch import Tensor

from jeton.core.vocabulary import Vocabulary
from jeton.transfer.matching import Match, match_tokens

_SAMPLE_BYTES = 400_000  # text of one tokenizer: a second of training it
_PIECE = 20_000  # characters of a document that are taken at most


@dataclass(frozen=True)
class Sampled:
    """One sampled tokenizer with text encoded by it.

    Attributes:
        vocabulary: Its tokens.
        matches: How each relates to the source.
        stream: The text, shape (tokens,); only tokens that the source can spell.
    """

    vocabulary: Vocabulary
    matches: Sequence[Match]
    stream: Tensor


@dataclass(frozen=True, slots=True)
class TokenizerSampler:
    """Draws tokenizers.

    Attributes:
        source: Vocabulary that has to spell their tokens.
        texts: Documents.
        min_vocab: Smallest vocabulary.
        max_vocab: Largest; sizes are drawn uniformly in their logarithm.
        unigram: Share of Unigram models; the others are BPE.
    """

    source: Vocabulary
    texts: Sequence[str]
    min_vocab: int
    max_vocab: int
    unigram: float

    def sample(self, seed: int, number: int) -> Sampled:
        """Train a tokenizer on a random sample of the text; a function of seed and number."""
        rng = np.random.default_rng([seed, 2, number])
        documents, size = [], 0
        for index in rng.permutation(len(self.texts)):
            text = self.texts[int(index)]
            start = int(rng.integers(0, max(1, len(text) - _PIECE)))
            documents.append(text[start : start + _PIECE])
            size += len(documents[-1])
            if size > _SAMPLE_BYTES:
                break
        bounds = np.log([self.min_vocab, self.max_vocab])
        vocab_size = int(np.exp(rng.uniform(*bounds)))
        is_unigram, as_source = rng.random(2) < (self.unigram, 0.5)
        own = self.source.pre_tokenizer if as_source and self.source.has_all_bytes else None
        trained = _train_tokenizer(documents, vocab_size, own, is_unigram=bool(is_unigram))
        vocabulary = Vocabulary.from_tokenizer_json(trained.to_str())
        matches = match_tokens(self.source, vocabulary)
        stream = torch.cat([torch.tensor(ids) for ids in vocabulary.encode_batch(documents)])
        spelled = torch.tensor([bool(match.source_ids) for match in matches])
        return Sampled(vocabulary, matches, stream[spelled[stream]])


def _train_tokenizer(
    documents: Sequence[str], vocab_size: int, own: dict[str, Any] | None, *, is_unigram: bool
) -> Tokenizer:
    """Return a byte-level tokenizer of about this size; `own` is the source's pre-tokenizer."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    trainer: Any
    if is_unigram:
        tokenizer = Tokenizer(models.Unigram())
        trainer = trainers.UnigramTrainer(
            vocab_size=vocab_size, initial_alphabet=alphabet, show_progress=False
        )
    else:
        tokenizer = Tokenizer(models.BPE())
        trainer = trainers.BpeTrainer(
            vocab_size=vocab_size, initial_alphabet=alphabet, show_progress=False
        )
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    if own is not None and "ByteLevel" in json.dumps(own):
        document = json.loads(tokenizer.to_str())
        tokenizer = Tokenizer.from_str(json.dumps({**document, "pre_tokenizer": own}))
    tokenizer.train_from_iterator(documents, trainer)
    return tokenizer
