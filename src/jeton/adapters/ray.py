"""Count pretokens on a Ray cluster; the sums are those of the local pool, and learning stays here.

`count_texts` hands files to the workers, which must be able to read them at the same paths;
`count_dataset` counts a column of a Ray dataset where its blocks lie. Only counts travel back.
"""

from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from importlib import import_module
from typing import Any

import numpy as np
from numpy.typing import NDArray

from jeton.core.progress import NO_PROGRESS, Progress
from jeton.core.texts import TextCollection
from jeton.errors import ConfigError, InputError, MissingExtraError
from jeton.learn.counts import PretokenCounts, Tally, in_shards
from jeton.learn.packed import PackedCounts
from jeton.learn.pretokenize import Pretokenizer

_TASK_BYTES = 1 << 26  # of files to one task: seconds of work, against milliseconds to start it


def count_texts(
    texts: Iterable[str], pretokenizer: Pretokenizer, *, progress: Progress = NO_PROGRESS
) -> PretokenCounts:
    """Count the pretokens of texts by tasks of the Ray cluster that is connected.

    Args:
        texts: What `read_texts` gives is read by the workers, file by file; other documents are
            read here and sent.
        pretokenizer: How they are cut.
        progress: Where to report.
    Raises:
        MissingExtraError: Ray is not installed.
        ConfigError: Ray is not connected.
        InputError: there is no text at all.
    """
    ray = _connected()
    count = ray.remote(_count)
    most = 2 * max(1, int(ray.cluster_resources().get("CPU", 1)))  # bounds what is held in memory
    total = _Total()
    pending: deque[Any] = deque()
    for part in progress.track(_parts(texts), None, "counting", "task"):
        pending.append(count.remote(part, pretokenizer))
        if len(pending) > most:
            total.add(ray.get(pending.popleft()))
    while pending:
        total.add(ray.get(pending.popleft()))
    return total.counts()


def count_dataset(
    dataset: Any, pretokenizer: Pretokenizer, *, column: str = "text"
) -> PretokenCounts:
    """Count the pretokens of a column of a Ray dataset, one row a document.

    Args:
        dataset: A `ray.data.Dataset`.
        pretokenizer: How the documents are cut.
        column: Where the text stands; empty values are passed over.
    Raises:
        MissingExtraError: Ray is not installed.
        ConfigError: Ray is not connected, or the dataset has no such column.
        InputError: there is no text at all.
    """
    _connected()
    names = dataset.columns() or []
    if column not in names:
        raise ConfigError(
            f"the dataset has no column {column!r}", hint=f"it has: {', '.join(names) or 'none'}"
        )
    rows = dataset.map_batches(
        _count_batch,
        fn_kwargs={"pretokenizer": pretokenizer, "column": column},
        batch_size=None,  # as the blocks lie
        batch_format="numpy",
    )
    total = _Total()
    for row in rows.iter_rows():
        total.add(_unpack(row))
    return total.counts()


def _connected() -> Any:
    try:
        ray = import_module("ray")
    except ImportError as error:
        raise MissingExtraError(
            "Ray is not installed", hint="pip install 'jeton[ray]', or count with --processes"
        ) from error
    if not ray.is_initialized():
        raise ConfigError("Ray is not connected", hint="call ray.init() first")
    return ray


class _Total:
    """Adds up what the tasks return."""

    def __init__(self) -> None:
        self._tally, self._num_bytes, self._num_documents = Tally(), 0, 0

    def add(self, part: PretokenCounts) -> None:
        self._tally.add(part.counts)
        self._num_bytes += part.num_bytes
        self._num_documents += part.num_documents

    def counts(self) -> PretokenCounts:
        if not self._num_bytes:
            raise InputError("the texts are empty", hint="give text to learn from")
        return PretokenCounts(self._tally.counts(), self._num_bytes, self._num_documents)


def _parts(texts: Iterable[str]) -> Iterator[Iterable[str]]:
    """Yield groups of files to be read elsewhere, or groups of documents."""
    if not isinstance(texts, TextCollection) or texts.limit_bytes is not None:
        yield from in_shards(texts)
        return
    start = size = 0
    for index, file in enumerate(texts.files, 1):
        size += file.path.stat().st_size
        if size >= _TASK_BYTES or index == len(texts.files):
            yield replace(texts, files=texts.files[start:index])
            start, size = index, 0


def _count(part: Iterable[str], pretokenizer: Pretokenizer) -> PretokenCounts:
    """Count one part; runs on a worker."""
    tally, num_bytes, num_documents = Tally(), 0, 0
    for shard in in_shards(part):
        num_bytes += tally.scan(shard, pretokenizer, num_bytes > 0)
        num_documents += len(shard)
    return PretokenCounts(PackedCounts.pack(tally.counts()), num_bytes, num_documents)


def _count_batch(
    batch: Mapping[str, Any], pretokenizer: Pretokenizer, column: str
) -> dict[str, Any]:
    """Count one batch of a dataset into one row; runs on a worker."""
    found = _count([text for text in batch[column] if text], pretokenizer)
    packed = found.packed()
    arrays: dict[str, NDArray[Any]] = {
        "data": packed.data,
        "ends": packed.ends,
        "values": packed.values_array,
    }
    sizes = {"num_bytes": found.num_bytes, "num_documents": found.num_documents}
    return {
        **{name: np.array([array.tobytes()], dtype=object) for name, array in arrays.items()},
        **{name: np.array([size], dtype=np.int64) for name, size in sizes.items()},
    }


def _unpack(row: Mapping[str, Any]) -> PretokenCounts:
    packed = PackedCounts(
        np.frombuffer(row["data"], dtype=np.uint8),
        np.frombuffer(row["ends"], dtype=np.int64),
        np.frombuffer(row["values"], dtype=np.int64),
    )
    return PretokenCounts(packed, int(row["num_bytes"]), int(row["num_documents"]))
