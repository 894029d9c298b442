"""Counts of pretokens: the boundary between reading text, anywhere, and learning merges, here.

Counting is a map-reduce: count any shards of the text anywhere, add the counts, learn once.
"""

import multiprocessing
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any
from zlib import crc32

import numpy as np

from jeton.core.progress import NO_PROGRESS, Progress
from jeton.errors import ConfigError, InputError, MissingExtraError
from jeton.learn.compiling import HAS_NUMBA
from jeton.learn.pretokenize import Pretokenizer

_SHARD_CHARACTERS = 1 << 22
_BLOCK_CHARACTERS = 1 << 11
# Below this, compiling the scanner would take longer than the regex package does.
_MIN_CHARACTERS_TO_SCAN = 1 << 20


@dataclass(frozen=True)
class PretokenCounts:
    """How often each pretoken occurs.

    Attributes:
        counts: {bytes of the pretoken: occurrences}; occurrences fit an int64.
        num_bytes: Size of the text that was counted, in UTF-8.
        num_documents: How many documents were counted.
    """

    counts: Mapping[bytes, int] = field(default_factory=dict)
    num_bytes: int = 0
    num_documents: int = 0

    def __len__(self) -> int:
        return len(self.counts)

    def __add__(self, other: "PretokenCounts") -> "PretokenCounts":
        """Return the counts of both texts together."""
        total = Counter(self.counts)
        for pretoken, count in other.counts.items():
            total[pretoken] += count
        return PretokenCounts(
            total, self.num_bytes + other.num_bytes, self.num_documents + other.num_documents
        )

    def sorted_items(self) -> list[tuple[bytes, int]]:
        """Return the pretokens in byte order, so that no result depends on the order of reading."""
        return sorted(self.counts.items())

    def save(self, path: Path) -> None:
        """Write to `.parquet` (needs pyarrow) or `.npz`.

        Raises:
            ConfigError: the file's name ends in neither.
            MissingExtraError: pyarrow is not installed.
        """
        items = self.sorted_items()
        counts = np.array([count for _, count in items], dtype=np.int64)
        if path.suffix == ".parquet":
            arrow, parquet = _arrow("pyarrow"), _arrow("pyarrow.parquet")
            table = arrow.table({"pretoken": [key for key, _ in items], "count": counts})
            sizes = {"num_bytes": str(self.num_bytes), "num_documents": str(self.num_documents)}
            parquet.write_table(table.replace_schema_metadata(sizes), path)
            return
        _check_suffix(path)
        ends = np.cumsum([len(key) for key, _ in items], dtype=np.int64)
        data = np.frombuffer(b"".join(key for key, _ in items), dtype=np.uint8)
        sizes_array = np.array([self.num_bytes, self.num_documents], dtype=np.int64)
        with path.open("wb") as file:
            np.savez_compressed(file, data=data, ends=ends, counts=counts, sizes=sizes_array)

    @classmethod
    def load(cls, path: Path) -> "PretokenCounts":
        """Read what `save` wrote.

        Raises:
            InputError: the file does not exist or is damaged.
        """
        if not path.is_file():
            raise InputError(f"{path} does not exist", hint="check the path to the counts")
        if path.suffix == ".parquet":
            table = _arrow("pyarrow.parquet").read_table(path)
            keys, counts = table["pretoken"].to_pylist(), table["count"].to_pylist()
            sizes = table.schema.metadata or {}
            num_bytes = int(sizes.get(b"num_bytes", 0))
            return cls(
                dict(zip(keys, counts, strict=True)), num_bytes, int(sizes.get(b"num_documents", 0))
            )
        _check_suffix(path)
        try:
            with np.load(path, allow_pickle=False) as stored:
                data, ends = stored["data"].tobytes(), stored["ends"].tolist()
                counts, (num_bytes, num_documents) = stored["counts"].tolist(), stored["sizes"]
        except (ValueError, KeyError, OSError, EOFError) as error:
            raise InputError(f"{path} holds no counts: {error}") from error
        starts = [0, *ends[:-1]]
        keys = [data[start:end] for start, end in zip(starts, ends, strict=True)]
        return cls(dict(zip(keys, counts, strict=True)), int(num_bytes), int(num_documents))


def _arrow(module: str) -> Any:
    try:
        return import_module(module)
    except ImportError as error:
        raise MissingExtraError(
            "Parquet needs pyarrow", hint="pip install pyarrow, or use .npz"
        ) from error


def _check_suffix(path: Path) -> None:
    if path.suffix != ".npz":
        raise ConfigError(f"counts are stored as .parquet or .npz, not as {path.name!r}")


def count_pretokens(
    texts: Iterable[str],
    pretokenizer: Pretokenizer,
    *,
    num_processes: int = 1,
    progress: Progress = NO_PROGRESS,
) -> PretokenCounts:
    """Count the pretokens of texts.

    Args:
        texts: Documents.
        pretokenizer: How they are cut.
        num_processes: Worker processes; the counts do not depend on it.
        progress: Where to report.
    Raises:
        InputError: there is no text at all.
    """
    if num_processes < 1:
        raise ConfigError(f"num_processes must be at least 1, got {num_processes}")
    total: Counter[bytes] = Counter()
    num_bytes = num_documents = 0
    shards = progress.track(_shards(texts), None, "counting", "shard")
    if num_processes == 1:
        for shard in shards:
            total.update(_count_shard(pretokenizer, shard))
            num_bytes += _size(shard)
            num_documents += len(shard)
    else:
        context = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(num_processes, mp_context=context) as pool:
            pending = []
            for shard in shards:
                num_bytes += _size(shard)
                num_documents += len(shard)
                pending.append(pool.submit(_count_shard, pretokenizer, shard))
                if len(pending) > 2 * num_processes:  # bounds the text held in memory
                    total.update(pending.pop(0).result())
            for future in pending:
                total.update(future.result())
    if not num_bytes:
        raise InputError("the texts are empty", hint="give text to learn from")
    return PretokenCounts(total, num_bytes, num_documents)


def check_rereadable(texts: Iterable[str]) -> None:
    """Refuse an iterator, which could be read only once.

    Raises:
        InputError: the texts are one.
    """
    if iter(texts) is texts:
        raise InputError(
            "the texts are an iterator, which can be read only once",
            hint="give a list, or anything that can be iterated again",
        )


def sample(texts: Iterable[str], sample_bytes: int) -> list[str]:
    """Return about `sample_bytes` of texts, as blocks of lines spread evenly over each of them.

    Which blocks of a text are taken depends on that text and the share alone, so the order of the
    texts does not matter.
    """
    total = sum(len(text) for text in texts)
    if total <= sample_bytes:
        return list(texts)
    share = sample_bytes / total
    taken = []
    for text in texts:
        # The phase spreads the choice over texts of a single block.
        place, start = crc32(text.encode("utf-8", errors="surrogatepass")) / 2**32, 0
        while start < len(text):
            end = text.find("\n", start + _BLOCK_CHARACTERS) + 1
            if not 0 < end <= start + 2 * _BLOCK_CHARACTERS:
                end = start + _BLOCK_CHARACTERS
            place += share
            if place >= 1:
                place -= 1
                taken.append(text[start:end])
            start = end
    return taken


def _size(shard: list[str]) -> int:
    return sum(len(text.encode("utf-8", errors="surrogatepass")) for text in shard)


def _count_shard(pretokenizer: Pretokenizer, shard: list[str]) -> Counter[bytes]:
    style = pretokenizer.scanner_style
    size = sum(map(len, shard))
    if HAS_NUMBA and style is not None and size >= _MIN_CHARACTERS_TO_SCAN:
        from jeton.learn.scanners import scan

        return scan(shard, style)
    bound = pretokenizer.bind()
    total: Counter[str] = Counter()
    for text in shard:
        total.update(bound(text))
    return Counter({key.encode("utf-8", errors="surrogatepass"): n for key, n in total.items()})


def _shards(texts: Iterable[str]) -> Iterator[list[str]]:
    """Group documents so that each group holds a few million characters."""
    shard: list[str] = []
    size = 0
    for text in texts:
        shard.append(text)
        size += len(text)
        if size >= _SHARD_CHARACTERS:
            yield shard
            shard, size = [], 0
    if shard:
        yield shard
