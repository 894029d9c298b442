"""Static vectors of tokens and words, learned on the spot from a text: PPMI and a truncated SVD.

Source: Levy and Goldberg 2014, "Neural Word Embedding as Implicit Matrix Factorization",
https://papers.nips.cc/paper/5477; smoothing of contexts after Levy et al. 2015.
Differs from the source: left and right contexts are counted apart; the SVD is a randomised one
(Halko et al. 2011), seeded.
Cost: one sort of the co-occurrences; seconds for a few megabytes.
"""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from jeton.core.vocabulary import TokenKind, Vocabulary

Ids = npt.NDArray[np.int64]

WINDOW = 3  # tokens on each side; chosen by hand, not measured
_SMOOTHING = 0.75  # Levy et al. 2015, section 3.1
_BLOCK = 1024


@dataclass(frozen=True, slots=True)
class Sequences:
    """A tokenized text: ids with byte offsets, documents far enough apart not to meet.

    Attributes:
        ids: Shape (tokens,).
        starts: First byte of each token, ascending.
        stops: Byte after each token.
        size: Ids are below it.
    """

    ids: Ids
    starts: Ids
    stops: Ids
    size: int


def sample_texts(texts: Sequence[str], sample_bytes: int) -> list[str]:
    """Return evenly spread pieces of the texts, about `sample_bytes` characters of them in all."""
    total = sum(map(len, texts))
    if total <= sample_bytes:
        return [text for text in texts if text]
    share = sample_bytes / total
    return [text[: max(1, round(len(text) * share))] for text in texts if text]


def encodable(texts: Sequence[str], *vocabularies: Vocabulary) -> list[str]:
    """Return the texts that every vocabulary writes exactly."""
    return [t for t in texts if all(v.why_not_lossless(t) is None for v in vocabularies)]


def tokenize(vocabulary: Vocabulary, texts: Sequence[str]) -> Sequences:
    """Return the texts as tokens with byte offsets; tokens without bytes are left out."""
    documents = [np.asarray(ids, dtype=np.int64) for ids in vocabulary.encode_batch(texts)]
    sizes = [len(text.encode()) for text in texts]
    return place(documents, vocabulary.lengths, sizes)


def place(documents: Sequence[Ids], lengths: Ids, sizes: Sequence[int]) -> Sequences:
    """Put tokenized documents one after the other.

    Args:
        documents: Ids of each.
        lengths: Bytes of each id.
        sizes: Bytes of each document, the same for every tokenization of a text. What its tokens
            have more stands before it (a dummy space).
    """
    ids, starts, base = [np.zeros(0, dtype=np.int64)], [np.zeros(0, dtype=np.int64)], 0
    for document, size in zip(documents, sizes, strict=True):
        taken = lengths[document]
        ids.append(document)
        starts.append(np.cumsum(taken) - taken + base + min(0, size - int(taken.sum())))
        base += size + 2
    joined, begins = np.concatenate(ids), np.concatenate(starts)
    kept = lengths[joined] > 0
    joined, begins = joined[kept], begins[kept]
    return Sequences(joined, begins, begins + lengths[joined], len(lengths))


def cooccurrence_vectors(
    rows: Sequences, contexts: Sequences, *, dim: int, seed: int, window: int = WINDOW
) -> Tensor:
    """Return unit vectors of the row tokens; a zero vector where a token does not occur.

    Both sequences tokenize the same text. Tokens of two vocabularies get vectors in one space when
    they are given with the same contexts: see `joint_vectors`.
    """
    return _factorize(*_count(rows, contexts, window), (rows.size, 2 * contexts.size), dim, seed)


def joint_vectors(
    source: Vocabulary, destination: Vocabulary, texts: Sequence[str], *, dim: int, seed: int
) -> tuple[Tensor, Tensor]:
    """Return vectors of the source's and of the destination's tokens in one space.

    The contexts of both are the source's tokens to the left and right of the same bytes.
    """
    old, new = tokenize(source, texts), tokenize(destination, texts)
    both = [_count(side, old, WINDOW) for side in (old, new)]
    shift = np.array([0, old.size])
    row_ids = np.concatenate([part[0] + s for part, s in zip(both, shift, strict=True)])
    columns = np.concatenate([part[1] for part in both])
    weights = np.concatenate([part[2] for part in both])
    shape = (old.size + new.size, 2 * old.size)
    vectors = _factorize(row_ids, columns, weights, shape, dim, seed)
    return vectors[: old.size], vectors[old.size :]


def _count(
    rows: Sequences, contexts: Sequences, window: int
) -> tuple[Ids, Ids, npt.NDArray[np.float64]]:
    """Return row ids, context columns and weights (1 / distance) of what occurs together."""
    left = np.searchsorted(contexts.stops, rows.starts, side="right") - 1
    right = np.searchsorted(contexts.starts, rows.stops, side="left")
    keys, weights = [], []
    num_columns = 2 * contexts.size
    for distance in range(window):
        for index, side in ((left - distance, 0), (right + distance, contexts.size)):
            found = (index >= 0) & (index < len(contexts.ids))
            column = contexts.ids[index[found]] + side
            key, count = np.unique(rows.ids[found] * num_columns + column, return_counts=True)
            keys.append(key)
            weights.append(count / (distance + 1))
    key, where = np.unique(np.concatenate(keys), return_inverse=True)
    total = np.bincount(where, np.concatenate(weights), minlength=len(key)).astype(np.float64)
    return key // num_columns, key % num_columns, total


def _factorize(
    row_ids: Ids,
    columns: Ids,
    weights: npt.NDArray[np.float64],
    shape: tuple[int, int],
    dim: int,
    seed: int,
) -> Tensor:
    """Return unit rows of U sqrt(S) of the positive pointwise mutual information."""
    if not len(row_ids):
        return torch.zeros(shape[0], dim)
    of_row = np.bincount(row_ids, weights, minlength=shape[0])
    of_column = np.bincount(columns, weights, minlength=shape[1]) ** _SMOOTHING
    of_column /= of_column.sum()
    information = np.log(weights / (of_row[row_ids] * of_column[columns]))
    kept = information > 0
    index = torch.from_numpy(np.stack([row_ids[kept], columns[kept]]))
    values = torch.from_numpy(information[kept]).float()
    matrix = torch.sparse_coo_tensor(
        index, values, shape, is_coalesced=True, check_invariants=False
    )
    vectors = _truncated_svd(matrix, min(dim, *shape), seed)
    return torch.nn.functional.normalize(vectors)


def _truncated_svd(matrix: Tensor, rank: int, seed: int) -> Tensor:
    """Return U sqrt(S) of a sparse matrix, by randomised subspace iteration."""
    generator = torch.Generator().manual_seed(seed)
    width = min(rank + 8, *matrix.shape)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Sparse CSR tensor support is in beta")
        transposed, matrix = matrix.t().coalesce().to_sparse_csr(), matrix.to_sparse_csr()
    basis = torch.randn((matrix.shape[1], width), generator=generator)
    for _ in range(3):
        basis = torch.linalg.qr(torch.sparse.mm(matrix, basis)).Q
        basis = torch.linalg.qr(torch.sparse.mm(transposed, basis)).Q
    projected = torch.sparse.mm(matrix, basis)  # (rows, width)
    eigenvalues, rotation = torch.linalg.eigh(projected.T @ projected)
    scale = eigenvalues.clamp_min(0).flip(0)[:rank].pow(0.25)  # sqrt of the singular values
    rotation = rotation.flip(1)[:, :rank]
    vectors: Tensor = projected @ rotation / scale.clamp_min(1e-6)  # U S / sqrt(S)
    return vectors


def nearest(queries: Tensor, keys: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Return the k largest cosines and their places; all vectors have length one.

    Args:
        queries: Shape (queries, dim).
        keys: Shape (keys, dim), k of them at least.
        k: Neighbours.
    Returns:
        Cosines and indices of keys, each of shape (queries, k), best first.
    """
    found = [(block @ keys.T).topk(k) for block in queries.split(_BLOCK)]
    if not found:
        return torch.zeros(0, k), torch.zeros(0, k, dtype=torch.long)
    return torch.cat([f.values for f in found]), torch.cat([f.indices for f in found])


def ordinary_ids(vocabulary: Vocabulary, vectors: Tensor) -> Tensor:
    """Return the ids of text tokens that have a vector, shape (ids,)."""
    special = torch.from_numpy(vocabulary.kinds == int(TokenKind.SPECIAL))
    return torch.nonzero((vectors.abs().sum(1) > 0) & ~special).flatten()
