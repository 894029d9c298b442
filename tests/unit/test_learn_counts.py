from pathlib import Path

import pytest

from jeton.errors import ConfigError, InputError
from jeton.learn.counts import PretokenCounts, count_pretokens, sample
from jeton.learn.pretokenize import CODE_PATTERN, Pretokenizer

PRETOKENIZER = Pretokenizer.from_pattern(CODE_PATTERN)
TEXTS = [f"def f{i}(x):\n    return x + {i}\n" * (i + 1) for i in range(20)]


@pytest.mark.parametrize("num_shards", [1, 2, 8])
def test_shards_add_up(num_shards: int) -> None:
    whole = count_pretokens(TEXTS, PRETOKENIZER)
    total = PretokenCounts()
    for shard in range(num_shards):
        total += count_pretokens(TEXTS[shard::num_shards], PRETOKENIZER)
    assert dict(total.counts) == dict(whole.counts)
    assert (total.num_bytes, total.num_documents) == (whole.num_bytes, 20)
    assert sum(len(key) * n for key, n in whole.counts.items()) == whole.num_bytes


def test_processes_give_the_same_counts() -> None:
    assert count_pretokens(TEXTS, PRETOKENIZER, num_processes=2) == count_pretokens(
        TEXTS, PRETOKENIZER
    )
    with pytest.raises(ConfigError, match="num_processes"):
        count_pretokens(TEXTS, PRETOKENIZER, num_processes=0)


def test_counts_are_stored(tmp_path: Path) -> None:
    counts = count_pretokens(TEXTS, PRETOKENIZER) + PretokenCounts({b"\xff\x00": 2**40, b"": 1})
    counts.save(tmp_path / "counts.npz")
    loaded = PretokenCounts.load(tmp_path / "counts.npz")
    assert dict(loaded.counts) == dict(counts.counts)
    assert loaded.num_bytes == counts.num_bytes
    with pytest.raises(ConfigError, match=r"\.parquet or \.npz"):
        counts.save(tmp_path / "counts.csv")
    with pytest.raises(InputError, match="does not exist"):
        PretokenCounts.load(tmp_path / "none.npz")
    (tmp_path / "bad.npz").write_bytes(b"damaged")
    with pytest.raises(InputError, match="holds no counts"):
        PretokenCounts.load(tmp_path / "bad.npz")


def test_counts_are_stored_as_parquet(tmp_path: Path) -> None:
    pytest.importorskip("pyarrow")
    counts = count_pretokens(TEXTS, PRETOKENIZER)
    counts.save(tmp_path / "counts.parquet")
    assert PretokenCounts.load(tmp_path / "counts.parquet") == counts


def test_sample_is_even_and_ignores_the_order() -> None:
    texts = [f"line {i} of this text\n" * 2000 for i in range(10)]
    taken = sample(texts, 100_000)
    assert 0.8 < sum(map(len, taken)) / 100_000 < 1.2
    assert sorted(taken) == sorted(sample(texts[::-1], 100_000))
    assert all(any(text.startswith(f"line {i} ") for text in taken) for i in range(10))
    assert sample(texts, 10**9) == texts


def test_bad_patterns_are_refused() -> None:
    with pytest.raises(ConfigError, match="not a regular expression"):
        Pretokenizer.from_pattern("(")
