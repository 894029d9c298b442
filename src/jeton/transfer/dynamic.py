"""Dynamic tokenization: a model reads a batch with fewer tokens, whose rows are made on the fly.

Source: Feher et al. 2025, "Retrofitting Large Language Models with Dynamic Tokenization",
https://arxiv.org/abs/2411.18553, section 3: frequent neighbours of the batch become tokens, a
hypernetwork predicts their rows, a cache keeps them.
Differs from the source: the last tokens of a document can be left as they are.
Cost: a pass over the batch for each merge, and a small forward of the network for each new token
that the cache does not hold; the forward of the model is shorter by what was joined.
"""

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from jeton.core.joining import check_joining, join_pairs, joins_of
from jeton.errors import ConfigError, TokenizerMismatchError
from jeton.lm.load import LanguageModel
from jeton.transfer.embeddings import input_scale, rows_of
from jeton.transfer.hypernetwork import Hypernetwork, fingerprint, network_for

Ids = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class DynamicOptions:
    """Options.

    Attributes:
        num_merges: Most merges for a batch; it ends before when no pair occurs twice.
        scope: "word": a token joins its left neighbour unless it begins with white space; "any":
            always. Special tokens never join.
        keep_last: Last tokens of each document that are left as they are; what follows them in
            the source's tokens leans on them most.
        cache_size: Rows that are kept, the least recently used one goes first.
    """

    num_merges: int = 200
    scope: str = "word"
    keep_last: int = 64
    cache_size: int = 65_536

    def __post_init__(self) -> None:
        check_joining(self.num_merges, self.scope)
        if self.keep_last < 0 or self.cache_size < 0:
            raise ConfigError(
                "keep_last and cache_size must be 0 or more, got "
                f"{self.keep_last} and {self.cache_size}"
            )


@dataclass(frozen=True, slots=True)
class Joined:
    """A batch with joined tokens.

    Attributes:
        token_ids: Ids of each document, shape (seq,); those from `vocab_size` on are new.
        spellings: Source ids of each new token.
    """

    token_ids: list[Ids]
    spellings: tuple[tuple[int, ...], ...]


class RowCache:
    """Rows of tokens by the source ids that spell them, from a network or as their mean.

    Attributes:
        rows: Of the source, shape (vocab_size, columns), float32.
        hits: Rows that were found.
        misses: Rows that were made.
    """

    def __init__(self, rows: Tensor, network: Hypernetwork | None, size: int) -> None:
        """Make an empty cache; without a network a row is the mean of its parts."""
        if network is not None and network.config.columns != rows.shape[1]:
            raise TokenizerMismatchError(
                f"the hypernetwork predicts rows of {network.config.columns} numbers, the model "
                f"has {rows.shape[1]}",
                hint="give the network of this model's base",
            )
        self.rows, self.network, self.size = rows, network, size
        self.hits = self.misses = 0
        self._kept: OrderedDict[tuple[int, ...], Tensor] = OrderedDict()

    def __len__(self) -> int:
        return len(self._kept)

    def get(self, spellings: Sequence[tuple[int, ...]]) -> Tensor:
        """Return rows in the order of the spellings, shape (tokens, columns)."""
        missing = list(dict.fromkeys(s for s in spellings if s not in self._kept))
        made = dict(zip(missing, self.make(missing), strict=True))
        self.misses += len(missing)
        self.hits += len(spellings) - len(missing)
        result = torch.empty(len(spellings), self.rows.shape[1])
        for place, spelling in enumerate(spellings):
            if spelling in made:
                result[place] = made[spelling]
            else:
                self._kept.move_to_end(spelling)
                result[place] = self._kept[spelling]
        for spelling, row in made.items():
            self._kept[spelling] = row.clone()  # not a view that keeps the whole block
        while len(self._kept) > self.size:
            self._kept.popitem(last=False)
        return result

    def make(self, spellings: Sequence[tuple[int, ...]]) -> Tensor:
        """Return rows without looking them up or keeping them, shape (tokens, columns)."""
        if not spellings:
            return torch.empty(0, self.rows.shape[1])
        if self.network is not None:
            return self.network.predict(self.rows, spellings)
        return torch.stack([self.rows[list(spelling)].mean(0) for spelling in spellings])


class DynamicReader:
    """A model that reads batches with joined tokens.

    Example:
        >>> from jeton.testing.models import tiny_language_model
        >>> reader = DynamicReader(tiny_language_model(), None, DynamicOptions(keep_last=0))
        >>> joined = reader.join([reader.lm.vocabulary.encode("banana")])
        >>> joined.token_ids[0].shape, reader.bytes_of(joined, 0)
        ((4,), b'banana')
    """

    def __init__(
        self,
        lm: LanguageModel,
        network: Hypernetwork | None,
        options: DynamicOptions | None = None,
    ) -> None:
        """Make a reader.

        Args:
            lm: The model; not changed.
            network: Trained for it or for its base; None takes the mean of the parts.
            options: None takes the defaults.
        Raises:
            TokenizerMismatchError: the network was trained for another base.
            UnsupportedModelError: quantised embeddings, or a model that does more to its
                embeddings than to scale them.
        """
        if network is not None and network.config.source != fingerprint(lm.vocabulary):
            raise TokenizerMismatchError(
                f"the hypernetwork was trained for another vocabulary than that of {lm.name}",
                hint="it serves its base model and that model's fine-tunes",
            )
        self.lm, self.options = lm, options or DynamicOptions()
        self.cache = RowCache(
            rows_of(lm.model, lm.vocabulary).cpu(), network, self.options.cache_size
        )
        self.scale = input_scale(lm.model)
        self._joins = joins_of(lm.vocabulary, self.options.scope)

    def join(
        self, documents: Sequence[Sequence[int] | Ids], num_merges: int | None = None
    ) -> Joined:
        """Return the batch with its most frequent neighbours joined.

        Args:
            documents: Source ids of each, 0 <= id < vocab_size; not changed.
            num_merges: Most merges; None takes the reader's.
        Raises:
            TokenizerMismatchError: an id is out of range.
        """
        vocab_size = self.lm.vocabulary.vocab_size
        batch = [np.array(document, dtype=np.int64) for document in documents]
        for ids in batch:
            if len(ids) and not 0 <= ids.min() <= ids.max() < vocab_size:
                raise TokenizerMismatchError(
                    f"ids from {ids.min()} to {ids.max()} are not of a vocabulary of {vocab_size}",
                    hint="give the ids that the model's own vocabulary encodes",
                )
        cuts = [max(0, len(ids) - self.options.keep_last) for ids in batch]
        heads = [ids[:cut] for ids, cut in zip(batch, cuts, strict=True)]
        most = self.options.num_merges if num_merges is None else num_merges
        found, pairs = join_pairs(heads, self._joins, most)
        spellings: list[tuple[int, ...]] = []
        for pair in pairs:
            parts = [(i,) if i < vocab_size else spellings[i - vocab_size] for i in pair]
            spellings.append(parts[0] + parts[1])
        tails = [ids[cut:] for ids, cut in zip(batch, cuts, strict=True)]
        ids_of = [np.concatenate(both) for both in zip(found, tails, strict=True)]
        return Joined(ids_of, tuple(spellings))

    def bytes_of(self, joined: Joined, document: int) -> bytes:
        """Return the bytes of a document of a joined batch."""
        vocabulary, size = self.lm.vocabulary, self.lm.vocabulary.vocab_size
        parts = [
            [i] if i < size else joined.spellings[i - size] for i in joined.token_ids[document]
        ]
        return vocabulary.bytes_of([i for part in parts for i in part])

    def embed(self, joined: Joined) -> list[Tensor]:
        """Return what the model's embedding layer would give, shape (seq, hidden) per document.

        Rows of the source's own tokens come from that layer, bit for bit.
        """
        layer: Any = self.lm.model.get_input_embeddings()
        size = self.lm.vocabulary.vocab_size
        used = sorted({int(i) - size for ids in joined.token_ids for i in ids[ids >= size]})
        hidden = layer.weight.shape[1]
        made = self.cache.get([joined.spellings[i] for i in used])[:, :hidden] * self.scale
        made = made.to(device=self.lm.device, dtype=self.lm.dtype)
        place_of = np.zeros(len(joined.spellings), dtype=np.int64)
        place_of[used] = np.arange(len(used))
        result = []
        for ids in joined.token_ids:
            is_new = ids >= size
            own = torch.from_numpy(np.where(is_new, 0, ids)).to(self.lm.device)
            with torch.no_grad():  # not inference_mode: the rows may go into a plain forward
                rows = layer(own)
                if is_new.any():
                    rows[torch.from_numpy(is_new)] = made[place_of[ids[is_new] - size]]
            result.append(rows)
        return result

    def inputs(self, documents: Sequence[str | bytes]) -> dict[str, Any]:
        """Return `inputs_embeds` and `attention_mask` of a batch, padded on the left.

        They go into `model(...)` and into `model.generate(...)`; a begin-of-text token is put
        before each document where the vocabulary has one.
        """
        bos = self.lm.vocabulary.bos_token_id
        start = [] if bos is None else [bos]
        encoded = [[*start, *ids] for ids in self.lm.vocabulary.encode_batch(documents)]
        if not encoded or not all(encoded):
            raise ConfigError("there is nothing to read", hint="give at least one byte each")
        rows = self.embed(self.join(encoded))
        longest = max(map(len, rows))
        padded = torch.zeros(len(rows), longest, rows[0].shape[1], dtype=rows[0].dtype)
        padded = padded.to(self.lm.device)
        mask = torch.zeros(len(rows), longest, dtype=torch.int64, device=self.lm.device)
        for index, own in enumerate(rows):
            padded[index, longest - len(own) :] = own
            mask[index, longest - len(own) :] = 1
        return {"inputs_embeds": padded, "attention_mask": mask}


def reader_for(
    lm: LanguageModel, network: str | Path = "", options: DynamicOptions | None = None
) -> DynamicReader:
    """Return a reader for a model.

    Args:
        lm: The model; not changed.
        network: Folder of its hypernetwork; "" for the one that comes with jeton, for the starter
            model and its fine-tunes; "mean" for the mean of the parts.
        options: None takes the defaults.
    Raises:
        ConfigError, InputError, CheckpointError, TokenizerMismatchError: no network, or none that
            fits.
    """
    if str(network) == "mean":
        return DynamicReader(lm, None, options)
    columns = rows_of(lm.model, lm.vocabulary).shape[1]
    return DynamicReader(lm, network_for(lm.vocabulary, columns, network), options)
