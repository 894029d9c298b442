"""Static word vectors, read from files or learned, and the vectors of tokens made from them."""

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from jeton.core.vocabulary import Vocabulary
from jeton.errors import ConfigError, EncodingError
from jeton.transfer.static_vectors import cooccurrence_vectors, place

_WORD = re.compile(r" ?\w+| ?[^\w\s]+|\s+")
_MAX_WORDS = 50_000  # rarer words have no reliable vector


@dataclass(frozen=True, slots=True)
class WordVectors:
    """Words, most frequent first, with their weights and unit vectors of shape (words, dim)."""

    words: list[str]
    frequencies: list[float]
    vectors: Tensor


def learn_words(texts: Sequence[str], *, dim: int, seed: int) -> WordVectors:
    """Learn vectors of the words of a text; a word keeps the one space before it."""
    documents = [_WORD.findall(text) for text in texts]
    counts = Counter(word for document in documents for word in document)
    ranked = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    index = {word: i for i, (word, _) in enumerate(ranked)}
    lengths = np.array([len(word.encode()) for word, _ in ranked] or [0], dtype=np.int64)
    ids = [np.array([index[w] for w in document], dtype=np.int64) for document in documents]
    sequence = place(ids, lengths, [len(text.encode()) for text in texts])
    vectors = cooccurrence_vectors(sequence, sequence, dim=dim, seed=seed)
    kept = ranked[:_MAX_WORDS]
    return WordVectors([w for w, _ in kept], [float(c) for _, c in kept], vectors[: len(kept)])


def read_vectors(path: str | Path) -> WordVectors:
    """Read vectors in the text format of word2vec and fastText; frequency is taken as 1 / rank.

    Raises:
        ConfigError: the file is missing, or a line has another number of columns.
    """
    words: list[str] = []
    rows: list[list[float]] = []
    try:
        with Path(path).open(encoding="utf-8", errors="replace") as file:
            for number, line in enumerate(file):
                word, *numbers = line.rstrip().split(" ")
                if number == 0 and len(numbers) == 1:
                    continue  # the header: words and columns
                if rows and len(numbers) != len(rows[0]):
                    raise ConfigError(
                        f"line {number + 1} of {path} has {len(numbers)} numbers, the lines before "
                        f"it have {len(rows[0])}",
                        hint="give vectors in the text format of word2vec",
                    )
                words.append(word)
                rows.append([float(value) for value in numbers])
    except (OSError, ValueError) as error:
        if isinstance(error, ConfigError):
            raise
        raise ConfigError(f"cannot read word vectors from {path}: {error}") from error
    if not words:
        raise ConfigError(f"{path} holds no word vectors")
    vectors = torch.nn.functional.normalize(torch.tensor(rows))
    return WordVectors(words, [1 / (rank + 1) for rank in range(len(words))], vectors)


def read_dictionary(path: str | Path) -> list[tuple[str, str]]:
    """Read pairs of source and destination words, two columns a line."""
    try:
        lines = Path(path).read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"cannot read the dictionary {path}: {error}") from error
    pairs = [tuple(line.split()) for line in lines if line.strip()]
    if any(len(pair) != 2 for pair in pairs):
        raise ConfigError(f"{path} has lines that are not two words")
    return [(pair[0], pair[1]) for pair in pairs]


def procrustes(moved: Tensor, fixed: Tensor) -> Tensor:
    """Return the orthogonal matrix R, shape (dim, dim), that minimises |moved R - fixed|.

    Schoenemann 1966: R = U V' of the SVD of moved' fixed.
    """
    u, _, vh = torch.linalg.svd(moved.double().T @ fixed.double())
    rotation: Tensor = u @ vh
    return rotation


def align(
    source: WordVectors, destination: WordVectors, pairs: Sequence[tuple[str, str]]
) -> WordVectors:
    """Return the destination's vectors turned into the source's space.

    Args:
        source: Fixed.
        destination: Turned.
        pairs: Words that mean the same, (source, destination); those unknown to either are left
            out. Words that both have stand for each other when there are none.
    Raises:
        ConfigError: no pair is known to both, or the widths differ.
    """
    if source.vectors.shape[1] != destination.vectors.shape[1]:
        raise ConfigError(
            f"the vectors have {source.vectors.shape[1]} and {destination.vectors.shape[1]} columns"
        )
    old = {word: i for i, word in enumerate(source.words)}
    new = {word: i for i, word in enumerate(destination.words)}
    chosen = pairs or [(word, word) for word in destination.words]
    known = [(old[a], new[b]) for a, b in chosen if a in old and b in new]
    if not known:
        raise ConfigError(
            "no word pair is known to both vector files",
            hint="give --set dictionary=FILE with a source and a destination word on each line",
        )
    fixed, moved = torch.tensor(known).unbind(1)
    rotation = procrustes(destination.vectors[moved], source.vectors[fixed])
    turned = (destination.vectors.double() @ rotation).float()
    return WordVectors(destination.words, destination.frequencies, turned)


def token_vectors(vocabulary: Vocabulary, words: WordVectors) -> Tensor:
    """Return unit vectors of tokens: the frequency-weighted sum over the words that contain them.

    A word counts as it stands and with a space before it. Shape (vocab_size, dim); a zero vector
    where no word contains the token.
    """
    token_ids, word_ids, weights = [], [], []
    for index, (word, frequency) in enumerate(zip(words.words, words.frequencies, strict=True)):
        for form in (word, " " + word) if word[:1].isalnum() else (word,):
            try:
                parts = vocabulary.encode(form)
            except EncodingError:
                continue
            token_ids += parts
            word_ids += [index] * len(parts)
            weights += [frequency] * len(parts)
    shape = (vocabulary.vocab_size, len(words.words))
    if not token_ids:
        return torch.zeros(shape[0], words.vectors.shape[1])
    matrix = torch.sparse_coo_tensor(
        torch.tensor([token_ids, word_ids]),
        torch.tensor(weights, dtype=torch.float32),
        shape,
        check_invariants=False,
    )
    return torch.nn.functional.normalize(torch.sparse.mm(matrix.coalesce(), words.vectors))
