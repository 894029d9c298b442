"""Counting on a Ray cluster gives the counts of one process."""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from jeton.adapters.ray import count_dataset, count_texts
from jeton.core.texts import read_texts
from jeton.errors import ConfigError, InputError, MissingExtraError
from jeton.learn.byte_level import pre_tokenizer_for
from jeton.learn.counts import Corpus, PretokenCounts, count_pretokens
from jeton.learn.methods.bpe import Bpe
from jeton.learn.pretokenize import Pretokenizer

PRETOKENIZER = Pretokenizer.from_tokenizer_json({"pre_tokenizer": pre_tokenizer_for("word", None)})
TEXTS = [f"the value of {i} is\n    the value of x{i}\n" * (i + 1) for i in range(12)]


@pytest.fixture(scope="module")
def ray() -> Iterator[Any]:
    ray = pytest.importorskip("ray")
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level="error")
    yield ray
    ray.shutdown()


def plain(counts: PretokenCounts) -> tuple[dict[bytes, int], int, int]:
    return dict(counts.counts), counts.num_bytes, counts.num_documents


def test_ray_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)  # as if it were not installed
    with pytest.raises(MissingExtraError, match="Ray is not installed"):
        count_texts(TEXTS, PRETOKENIZER)


def test_ray_must_be_connected() -> None:
    ray = pytest.importorskip("ray")
    ray.shutdown()  # another test may have connected
    with pytest.raises(ConfigError, match="not connected"):
        count_texts(TEXTS, PRETOKENIZER)


def test_tasks_count_like_one_process(
    ray: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("jeton.adapters.ray._TASK_BYTES", 500)
    for index, text in enumerate(TEXTS):
        (tmp_path / f"{index:02}.txt").write_text(text, encoding="utf-8")
    texts = read_texts(tmp_path)
    expected = plain(count_pretokens(TEXTS, PRETOKENIZER))
    assert plain(count_texts(texts, PRETOKENIZER)) == expected
    assert plain(count_texts(TEXTS, PRETOKENIZER)) == expected
    part, _, _ = texts.split(0.3)
    assert plain(count_texts(part, PRETOKENIZER)) == plain(count_pretokens(part, PRETOKENIZER))
    some = read_texts(tmp_path, limit_bytes=2000)
    assert plain(count_texts(some, PRETOKENIZER)) == plain(count_pretokens(some, PRETOKENIZER))
    with pytest.raises(InputError, match="empty"):
        count_texts([], PRETOKENIZER)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of Ray's own settings
def test_counts_of_a_dataset_are_learned_from(ray: Any, tmp_path: Path) -> None:
    data = pytest.importorskip("ray.data")
    data.DataContext.get_current().enable_progress_bars = False
    dataset = data.from_items([{"text": text} for text in [*TEXTS, ""]], override_num_blocks=3)
    counts = count_dataset(dataset, PRETOKENIZER)
    assert plain(counts) == plain(count_pretokens(TEXTS, PRETOKENIZER))
    corpus = Corpus([], tmp_path)
    store = corpus.store(PRETOKENIZER)
    assert store is not None
    store.save(counts)
    learned, local = (Bpe().learn(texts, vocab_size=270) for texts in (corpus, TEXTS))
    assert learned.tokenizer_json == local.tokenizer_json
    with pytest.raises(ConfigError, match="no column 'body'"):
        count_dataset(dataset, PRETOKENIZER, column="body")
