"""Counts of pretokens: the boundary between reading text, anywhere, and learning merges, here.

Counting is a map-reduce: count any shards of the text anywhere, add the counts, learn once.
"""

import hashlib
import json
import multiprocessing
import signal
from collections import Counter, deque
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import dataclass, field
from importlib import import_module
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any
from zipfile import BadZipFile
from zlib import crc32

import numpy as np

from jeton.core.compiling import HAS_NUMBA
from jeton.core.progress import NO_PROGRESS, Progress
from jeton.core.run import Interrupt, deferred_interrupt, disk_errors
from jeton.errors import ConfigError, InputError, MissingExtraError
from jeton.learn.packed import PackedCounts
from jeton.learn.pretokenize import Pretokenizer

if TYPE_CHECKING:
    from jeton.learn.piece_table import PieceTable

_SHARD_CHARACTERS = 1 << 22
_BLOCK_CHARACTERS = 1 << 11
# Below this, compiling the scanner would take longer than the regex package does.
_MIN_CHARACTERS_TO_SCAN = 1 << 20
_BYTES_PER_SAVE = 1 << 27  # of text between two saves; a save takes well under a second


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
        total = Tally()
        total.add(self.counts)
        total.add(other.counts)
        return PretokenCounts(
            total.counts(),
            self.num_bytes + other.num_bytes,
            self.num_documents + other.num_documents,
        )

    def packed(self) -> PackedCounts:
        """Return the counts as arrays."""
        return PackedCounts.pack(self.counts)

    def save(self, path: Path, *, is_sorted: bool = True) -> None:
        """Write to `.parquet` (needs pyarrow) or `.npz`.

        Args:
            path: File to write.
            is_sorted: Put the pretokens in byte order, so that equal counts give equal files.

        Raises:
            ConfigError: the file's name ends in neither.
            MissingExtraError: pyarrow is not installed.
        """
        packed = self.packed().in_byte_order() if is_sorted else self.packed()
        if path.suffix == ".parquet":
            arrow, parquet = _arrow("pyarrow"), _arrow("pyarrow.parquet")
            pieces = arrow.array(list(packed), type=arrow.binary())
            table = arrow.table({"pretoken": pieces, "count": packed.values_array})
            sizes = {"num_bytes": str(self.num_bytes), "num_documents": str(self.num_documents)}
            parquet.write_table(table.replace_schema_metadata(sizes), path)
            return
        _check_suffix(path)
        sizes_array = np.array([self.num_bytes, self.num_documents], dtype=np.int64)
        with path.open("wb") as file:
            np.savez_compressed(
                file,
                data=packed.data,
                ends=packed.ends,
                counts=packed.values_array,
                sizes=sizes_array,
            )

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
            stored = table.schema.metadata or {}
            sizes = (int(stored.get(name, 0)) for name in (b"num_bytes", b"num_documents"))
            return cls(dict(zip(keys, counts, strict=True)), *sizes)
        _check_suffix(path)
        try:
            with np.load(path, allow_pickle=False) as stored:
                data, ends, counts = stored["data"], stored["ends"], stored["counts"]
                num_bytes, num_documents = stored["sizes"].tolist()
        except (ValueError, KeyError, OSError, EOFError, BadZipFile) as error:
            raise InputError(
                f"{path} holds no counts: {error}", hint="count again, or give another file"
            ) from error
        return cls(PackedCounts(data, ends, counts), num_bytes, num_documents)


@dataclass(frozen=True)
class Corpus:
    """Texts, and how they are counted.

    Attributes:
        texts: Documents that can be iterated more than once, each time in the same order.
        folder: Where counts are kept, so that a killed job goes on; None for nowhere.
        num_processes: Processes that count.
    """

    texts: Iterable[str]
    folder: Path | None = None
    num_processes: int = 1

    def __iter__(self) -> Iterator[str]:
        return iter(self.texts)

    def store(self, pretokenizer: Pretokenizer) -> "CountStore | None":
        """Return where the counts of one pre-tokenizer are kept."""
        if self.folder is None:
            return None
        name = json.dumps([pretokenizer.specs, pretokenizer.normalizer])
        digest = hashlib.sha256(name.encode()).hexdigest()[:16]
        return CountStore(self.folder / f"{digest}.npz")


@dataclass(frozen=True)
class CountStore:
    """A file with the counts of the first documents of a text."""

    path: Path

    def load(self) -> PretokenCounts:
        """Return what was saved last; nothing at the start."""
        return PretokenCounts.load(self.path) if self.path.is_file() else PretokenCounts()

    def save(self, counts: PretokenCounts) -> None:
        """Replace the file, so that a kill leaves the old one or the new one."""
        with disk_errors(self.path):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            partial = self.path.with_name("partial." + self.path.name)
            counts.save(partial, is_sorted=False)
            partial.replace(self.path)


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


class Tally:
    """Adds counts up; pieces become objects only where there are few of them."""

    def __init__(self) -> None:
        self._counter: Counter[bytes] = Counter()
        self._table: PieceTable | None = None

    def scan(self, texts: list[str], pretokenizer: Pretokenizer, is_large: bool = False) -> int:
        """Count the pieces of texts, part of a large text or not; return their size in UTF-8."""
        style = pretokenizer.scanner_style
        size = _MIN_CHARACTERS_TO_SCAN if is_large else sum(map(len, texts))
        if style is not None and self._is_worth_a_table(size):
            from jeton.learn.scanners import scan_into

            return scan_into(self._opened(), texts, style)
        bound = pretokenizer.bind()
        found: Counter[str] = Counter()
        for text in texts:
            found.update(bound(text))
        for key, count in found.items():
            self._counter[_utf8(key)] += count
        return sum(len(_utf8(text)) for text in texts)

    def add(self, counts: Mapping[bytes, int]) -> None:
        """Add counts made elsewhere."""
        if isinstance(counts, PackedCounts) and self._is_worth_a_table(len(counts.data)):
            self._opened().add(counts)
            return
        for key, count in counts.items():
            self._counter[key] += count

    def counts(self) -> Mapping[bytes, int]:
        """Return the sums."""
        if self._table is None:
            return self._counter
        self._table.add(PackedCounts.pack(self._counter))
        self._counter = Counter()
        return self._table.packed()

    def _is_worth_a_table(self, num_characters: int) -> bool:
        return HAS_NUMBA and (self._table is not None or num_characters >= _MIN_CHARACTERS_TO_SCAN)

    def _opened(self) -> "PieceTable":
        if self._table is None:
            from jeton.learn.piece_table import PieceTable

            self._table = PieceTable()
        return self._table


def count_pretokens(
    texts: Iterable[str],
    pretokenizer: Pretokenizer,
    *,
    num_processes: int = 1,
    progress: Progress = NO_PROGRESS,
) -> PretokenCounts:
    """Count the pretokens of texts.

    Args:
        texts: Documents; a `Corpus` also says where the counts are kept and who counts.
        pretokenizer: How they are cut.
        num_processes: Worker processes; the counts do not depend on it.
        progress: Where to report.
    Raises:
        InputError: there is no text at all.
    """
    store = None
    if isinstance(texts, Corpus):
        num_processes = max(num_processes, texts.num_processes)
        store, texts = texts.store(pretokenizer), texts.texts
    if num_processes < 1:
        raise ConfigError(f"num_processes must be at least 1, got {num_processes}")
    total = _Total(store)
    shards = progress.track(in_shards(texts, total.num_documents), None, "counting", "shard")
    with deferred_interrupt() as interrupt:  # Ctrl-C between two shards loses neither
        if num_processes == 1:
            for shard in shards:
                is_large = total.num_bytes > 0
                total.num_bytes += total.tally.scan(shard, pretokenizer, is_large)
                total.finish_shard(len(shard), interrupt)
        else:
            _count_in_processes(shards, pretokenizer, num_processes, total, interrupt)
    total.save()
    if not total.num_bytes:
        raise InputError("the texts are empty", hint="give text to learn from")
    return PretokenCounts(total.tally.counts(), total.num_bytes, total.num_documents)


class _Total:
    """What was counted so far, and where it is kept."""

    def __init__(self, store: CountStore | None) -> None:
        self.tally, self.num_bytes, self.num_documents = Tally(), 0, 0
        self._store, self._unsaved, self._saved_bytes = store, 0, 0
        if store is not None:
            kept = store.load()
            self.tally.add(kept.counts)
            self.num_bytes, self.num_documents = kept.num_bytes, kept.num_documents
            self._saved_bytes = self.num_bytes

    def finish_shard(self, num_documents: int, interrupt: Interrupt) -> None:
        self.num_documents += num_documents
        if interrupt.requested or self.num_bytes - self._saved_bytes >= _BYTES_PER_SAVE:
            self.save()
        interrupt.raise_if_requested()

    def save(self) -> None:
        if self._store is not None and self.num_bytes > self._saved_bytes:
            counts = PretokenCounts(self.tally.counts(), self.num_bytes, self.num_documents)
            self._store.save(counts)
            self._saved_bytes = self.num_bytes


def _count_in_processes(
    shards: Iterable[list[str]],
    pretokenizer: Pretokenizer,
    num_processes: int,
    total: _Total,
    interrupt: Interrupt,
) -> None:
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(
        num_processes, mp_context=context, initializer=_ignore_interrupts
    ) as pool:
        pending: deque[tuple[int, Future[tuple[PackedCounts, int]]]] = deque()

        def take() -> None:
            num_documents, future = pending.popleft()
            counts, num_bytes = future.result()
            total.tally.add(counts)
            total.num_bytes += num_bytes
            total.finish_shard(num_documents, interrupt)

        is_large = total.num_bytes > 0
        for shard in shards:
            future = pool.submit(_count_shard, pretokenizer, shard, is_large)
            pending.append((len(shard), future))
            is_large = True
            if len(pending) > 2 * num_processes:  # bounds the text held in memory
                take()
        while pending:
            take()


def _ignore_interrupts() -> None:
    """Leave Ctrl-C, which reaches every process of a terminal, to the one that asked."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _count_shard(
    pretokenizer: Pretokenizer, shard: list[str], is_large: bool
) -> tuple[PackedCounts, int]:
    tally = Tally()
    num_bytes = tally.scan(shard, pretokenizer, is_large)
    return PackedCounts.pack(tally.counts()), num_bytes


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
        place, start = crc32(_utf8(text)) / 2**32, 0
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


def _utf8(text: str) -> bytes:
    return text.encode("utf-8", errors="surrogatepass")


def in_shards(texts: Iterable[str], num_done: int = 0) -> Iterator[list[str]]:
    """Group documents so that each group holds a few million characters; skip those done."""
    shard: list[str] = []
    size = 0
    for text in islice(texts, num_done, None):
        shard.append(text)
        size += len(text)
        if size >= _SHARD_CHARACTERS:
            yield shard
            shard, size = [], 0
    if shard:
        yield shard
