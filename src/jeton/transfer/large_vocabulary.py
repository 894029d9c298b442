"""Generation with many more output tokens than the model has: fewer steps for the same bytes.

Source: Feher et al. 2025, "Retrofitting Large Language Models with Dynamic Tokenization",
https://arxiv.org/abs/2411.18553, section 4: a hypernetwork gives rows to a large vocabulary, an
index over the output rows finds the next token.
Differs from the source: greedy; the new tokens are the words of the user's text that the source
cuts, or any others; a text takes the longest of them that fit, from left to right.
Cost: the rows once, see `DynamicReader`; per step a forward of the body and a search, see
`OutputIndex`.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from jeton.core.joining import joins_of
from jeton.core.vocabulary import Vocabulary
from jeton.errors import ConfigError, TokenizerMismatchError, UnsupportedModelError
from jeton.lm.load import LanguageModel
from jeton.transfer.dynamic import DynamicReader
from jeton.transfer.embeddings import body_of, is_tied, read_matrices
from jeton.transfer.output_index import IndexOptions, OutputIndex


@dataclass(frozen=True, slots=True)
class Generated:
    """What was generated.

    Attributes:
        data: Bytes behind the prompt.
        token_ids: Of the large vocabulary; one for each step.
        ended: Whether an end-of-text token came.
    """

    data: bytes
    token_ids: list[int]
    ended: bool


def frequent_words(
    vocabulary: Vocabulary,
    documents: Iterable[Sequence[int]],
    size: int,
    *,
    scope: str = "word",
    max_parts: int = 8,
) -> list[tuple[int, ...]]:
    """Return the source ids of the most frequent words that the source cuts; ties: first seen.

    Args:
        vocabulary: Of the source.
        documents: Source ids.
        size: Most words.
        scope: What is a word, see `DynamicOptions`.
        max_parts: Longest spelling, in tokens.
    """
    joins = joins_of(vocabulary, scope)
    counts: Counter[tuple[int, ...]] = Counter()
    for document in documents:
        ids = np.asarray(document, dtype=np.int64)
        if not len(ids):
            continue
        kinds = joins[ids]
        begins = np.flatnonzero(np.append(True, (kinds[1:] != 1) | (kinds[:-1] == 0)))
        ends = np.append(begins[1:], len(ids))
        is_cut = (ends - begins >= 2) & (ends - begins <= max_parts)
        for begin, end in zip(begins[is_cut].tolist(), ends[is_cut].tolist(), strict=True):
            counts[tuple(ids[begin:end].tolist())] += 1
    return [word for word, _ in counts.most_common(size)]


class LargeVocabulary:
    """A model with its own tokens and more, whose rows a hypernetwork gives.

    Without more tokens and with an exact index, generation is the model's own greedy one.

    Attributes:
        lm: The model; not changed.
        spellings: Source ids of each further token; token k has the id vocab_size + k.
        rows: Of all tokens, shape (vocab_size + further tokens, columns), float32.
        index: Over the output rows.
    """

    def __init__(
        self,
        reader: DynamicReader,
        spellings: Sequence[tuple[int, ...]],
        options: IndexOptions | None = None,
        seed: int = 0,
    ) -> None:
        """Make the rows and the index.

        Args:
            reader: Holds the model and its hypernetwork.
            spellings: Of the further tokens, at least two source ids each, none twice.
            options: Of the index.
            seed: Of the index.
        """
        self.lm: LanguageModel = reader.lm
        vocabulary, model = self.lm.vocabulary, self.lm.model
        size = vocabulary.vocab_size
        self.spellings = [tuple(spelling) for spelling in spellings]
        _check_spellings(self.spellings, size)
        made = reader.cache.make(self.spellings)
        self.rows = torch.cat([reader.cache.rows, made])
        embedding, head = read_matrices(model, vocabulary)
        hidden = embedding.weight.shape[1]
        output = self.rows[:, :hidden] if is_tied(embedding, head) else self.rows[:, hidden:]
        own = getattr(head, "bias", None)
        bias = None
        if own is not None:
            own = own.detach()[:size].float()
            further = [own[list(spelling)].mean() for spelling in self.spellings]
            bias = torch.cat([own, torch.tensor(further)])
        device, dtype = self.lm.device, self.lm.dtype
        given = output.to(device, dtype)
        self.index = OutputIndex(
            given, None if bias is None else bias.to(device, dtype), options, seed
        )
        self._embedded = (self.rows[size:, :hidden] * reader.scale).to(device, dtype)
        self._id_of = {spelling: size + k for k, spelling in enumerate(self.spellings)}
        self._longest = max(map(len, self.spellings), default=1)

    def __len__(self) -> int:
        return len(self.rows)

    def encode(self, token_ids: Sequence[int]) -> list[int]:
        """Return source ids with the longest further tokens that fit, from left to right."""
        found, place, ids = [], 0, tuple(token_ids)
        while place < len(ids):
            for length in range(min(self._longest, len(ids) - place), 1, -1):
                token_id = self._id_of.get(ids[place : place + length])
                if token_id is not None:
                    found.append(token_id)
                    place += length
                    break
            else:
                found.append(ids[place])
                place += 1
        return found

    def spell(self, token_ids: Sequence[int]) -> list[int]:
        """Return the source ids of ids of the large vocabulary."""
        size = self.lm.vocabulary.vocab_size
        parts = [(i,) if i < size else self.spellings[i - size] for i in token_ids]
        return [i for part in parts for i in part]

    def embed(self, token_ids: Sequence[int]) -> Tensor:
        """Return what goes into the model for ids of the large vocabulary, shape (seq, hidden)."""
        size = self.lm.vocabulary.vocab_size
        ids = torch.tensor(token_ids, device=self.lm.device)
        is_new = ids >= size
        with torch.no_grad():
            rows: Tensor = self.lm.model.get_input_embeddings()(ids.masked_fill(is_new, 0))
            rows[is_new] = self._embedded[ids[is_new] - size]
        return rows

    def generate(self, prompt: str | bytes, max_new_tokens: int = 64) -> Generated:
        """Return the greedy continuation of a prompt, in tokens of the large vocabulary.

        Args:
            prompt: At least one byte, or none where the vocabulary has a begin-of-text token.
            max_new_tokens: Most steps.
        Raises:
            ConfigError: nothing to start from, or more than the model's positions.
            UnsupportedModelError: the model keeps no cache between forwards.
        """
        vocabulary = self.lm.vocabulary
        bos = vocabulary.bos_token_id
        ids = self.encode([*([] if bos is None else [bos]), *vocabulary.encode(prompt)])
        limit = self.lm.max_length or 1 << 40
        if not ids or max_new_tokens < 1 or len(ids) + max_new_tokens > limit:
            raise ConfigError(
                f"a prompt of {len(ids)} tokens and {max_new_tokens} new ones do not fit; both "
                f"need at least one, together at most {limit}"
            )
        body, ends = body_of(self.lm.model), self._ends()
        given, cache = self.embed(ids), None
        found: list[int] = []
        with torch.inference_mode():
            while len(found) < max_new_tokens:
                output = body(inputs_embeds=given[None], past_key_values=cache, use_cache=True)
                cache = getattr(output, "past_key_values", None)
                if cache is None:
                    raise UnsupportedModelError(f"{type(self.lm.model).__name__} keeps no cache")
                next_id = int(self.index.search(output.last_hidden_state[0, -1:], 1)[1])
                if next_id in ends:
                    return Generated(vocabulary.bytes_of(self.spell(found)), found, True)
                found.append(next_id)
                given = self.embed([next_id])
        return Generated(vocabulary.bytes_of(self.spell(found)), found, False)

    def _ends(self) -> set[int]:
        """Return the ids that end a text."""
        config = getattr(self.lm.model, "generation_config", None)
        named = getattr(config, "eos_token_id", None)
        ids = named if isinstance(named, list) else [named, self.lm.vocabulary.eos_token_id]
        return {int(i) for i in ids if i is not None}


def _check_spellings(spellings: Sequence[tuple[int, ...]], vocab_size: int) -> None:
    if len(set(spellings)) != len(spellings) or any(len(s) < 2 for s in spellings):
        raise ConfigError("further tokens need two or more source tokens each, and none twice")
    ids = [i for spelling in spellings for i in spelling]
    if ids and not 0 <= min(ids) <= max(ids) < vocab_size:
        raise TokenizerMismatchError(
            f"ids from {min(ids)} to {max(ids)} are not of a vocabulary of {vocab_size}",
            hint="spell the tokens with the model's own vocabulary",
        )
