"""`jeton learn`: run folders, resume, sizes, counting in tables."""

import json
import random
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from transformers import AutoTokenizer
from typer.testing import CliRunner

from jeton.cli.app import app
from jeton.errors import ConfigError, CorruptRunError, InputError
from jeton.learn import counts as counting
from jeton.learn.counts import Corpus, count_pretokens
from jeton.learn.packed import PackedCounts
from jeton.learn.piece_table import PieceTable
from jeton.learn.pretokenize import WORD_PATTERN, Pretokenizer
from jeton.learn.run import LearnConfig, learn_to_folder, resume

WORDS = Pretokenizer.from_pattern(WORD_PATTERN)


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    folder = tmp_path / "text"
    folder.mkdir()
    for number in range(30):
        words = " ".join(f"word{(number * k) % 17} of the {k} again" for k in range(40))
        (folder / f"{number}.txt").write_text(words + " 1234567\n")
    return folder


def test_the_table_counts_like_a_counter() -> None:
    rng = np.random.default_rng(0)
    pieces = [bytes(rng.integers(97, 100, rng.integers(0, 6))) for _ in range(3000)]
    pieces += [b"x" * 300_000, f"{0:x}".encode()] + [f"{i:x}".encode() for i in range(40_000)]
    table = PieceTable()
    data = np.frombuffer(b"".join(pieces), dtype=np.uint8)
    table.add_cut(data, np.cumsum([len(piece) for piece in pieces]), len(pieces))
    table.add(PackedCounts.pack({b"aa": 5, b"new": 7}))
    expected = Counter(pieces) + Counter({b"aa": 5, b"new": 7})
    packed = table.packed()
    assert dict(packed) == expected and len(packed) == len(expected)
    assert dict(packed.in_byte_order()) == expected
    assert list(packed.in_byte_order()) == sorted(expected)


class Killed(Corpus):
    """Texts whose reading is stopped once."""

    def __iter__(self) -> Iterator[str]:
        for number, text in enumerate(self.texts):
            if number == 7:
                raise RuntimeError("killed")
            yield text


@pytest.mark.parametrize("num_processes", [1, 2])
def test_counts_go_on_where_a_killed_job_stopped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, num_processes: int
) -> None:
    monkeypatch.setattr(counting, "_SHARD_CHARACTERS", 10)
    monkeypatch.setattr(counting, "_BYTES_PER_SAVE", 20)
    texts = [f"text number {i} is here" for i in range(20)]
    whole = count_pretokens(texts, WORDS)
    folder = tmp_path / "counts"
    with pytest.raises(RuntimeError, match="killed"):
        count_pretokens(Corpus(Killed(texts), folder), WORDS)
    (kept,) = folder.glob("*.npz")
    assert 0 < counting.PretokenCounts.load(kept).num_documents < 8
    read = []

    class Watched(list):  # type: ignore[type-arg]
        def __iter__(self) -> Iterator[str]:
            for text in super().__iter__():
                read.append(text)
                yield text

    again = count_pretokens(Corpus(Watched(texts), folder, num_processes), WORDS)
    assert dict(again.counts) == dict(whole.counts)
    assert (again.num_bytes, again.num_documents) == (whole.num_bytes, 20)
    assert dict(count_pretokens(Corpus(texts, folder), WORDS).counts) == dict(whole.counts)


def test_a_killed_run_is_finished_by_resume(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = LearnConfig("bpe", (corpus,), tmp_path / "whole", "290", options={"digits": "right"})
    whole = learn_to_folder(config)
    killed = LearnConfig("bpe", (corpus,), tmp_path / "out", "290", options={"digits": "right"})

    def stop(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("jeton.learn.methods.bpe.MergeEngine", stop)
        with pytest.raises(KeyboardInterrupt):
            learn_to_folder(killed)
    with pytest.raises(ConfigError, match="not an empty folder") as caught:
        learn_to_folder(killed)
    assert "--resume" in str(caught.value.hint)
    assert list((tmp_path / "out" / "counts").glob("*.npz"))
    result = resume(tmp_path / "out")
    assert result.vocab_size == whole.vocab_size == 290
    same = [(tmp_path / name / "tokenizer.json").read_bytes() for name in ("whole", "out")]
    assert same[0] == same[1]
    assert not (tmp_path / "out" / "counts").exists()
    with pytest.raises(ConfigError, match="finished"):
        resume(tmp_path / "out")
    loaded = AutoTokenizer.from_pretrained(tmp_path / "out")
    pieces = loaded.convert_ids_to_tokens(loaded("1234567")["input_ids"])
    assert all("12" not in piece and "45" not in piece for piece in pieces)


def test_changed_text_is_not_resumed(corpus: Path, tmp_path: Path) -> None:
    config = LearnConfig("bpe", (corpus,), tmp_path / "out", "290")
    learn_to_folder(config)
    (tmp_path / "out" / "result.json").unlink()
    (corpus / "0.txt").write_text("other")
    with pytest.raises(CorruptRunError, match="changed"):
        resume(tmp_path / "out")


def test_auto_stops_where_more_no_longer_pays(tmp_path: Path) -> None:
    rng = random.Random(0)
    words = ["".join(rng.choices("aeioukmnprstl", k=rng.randint(3, 9))) for _ in range(3000)]
    chosen = rng.choices(words, [1 / rank for rank in range(1, 3001)], k=30_000)
    lines = [" ".join(chosen[i : i + 9]) for i in range(0, 30_000, 9)]
    (tmp_path / "text.txt").write_text("\n".join(lines))
    config = LearnConfig(
        "bpe", (tmp_path / "text.txt",), tmp_path / "out", "auto", hidden_size=64,
        body_parameters=100_000,
    )  # fmt: skip
    result = learn_to_folder(config)
    best = min(result.sizes, key=lambda choice: choice.parameters_per_byte)
    assert result.vocab_size == best.vocab_size
    assert len(result.sizes) >= 2
    for choice in result.sizes:
        own = (100_000 + 64 * choice.vocab_size) / choice.bytes_per_token
        assert choice.parameters_per_byte == pytest.approx(own)


def test_the_verb_prints_one_document_and_leaves_nothing_behind(
    corpus: Path, tmp_path: Path
) -> None:
    runner = CliRunner()
    arguments = ["learn", "bpe", "--text", str(corpus), "--out", str(tmp_path / "out")]
    done = runner.invoke(app, [*arguments, "--vocab-size", "290", "--json", "--set", "min_count=2"])
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["vocab_size"] == 290
    assert "report.html" in {path.name for path in (tmp_path / "out").iterdir()}
    small = [*arguments[:-1], str(tmp_path / "small")]
    for given, error in (
        (["--vocab-size", "9000"], InputError),
        (["--vocab-size", "90"], ConfigError),
        (["--vocab-size", "many"], ConfigError),
        (["--vocab-size", "290", "--set", "special_tokens=<a>,<a>"], ConfigError),
        (["--vocab-size", "290", "--digits", "wrong"], ConfigError),
    ):
        assert isinstance(runner.invoke(app, [*small, *given]).exception, error)
        assert not (tmp_path / "small").exists()
