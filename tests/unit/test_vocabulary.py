"""Readers of each tokenizer format, their bad input, and the small parts of `Vocabulary`."""

import io
import json
import pickle
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

from jeton.core.formats.tiktoken import dump_ranks
from jeton.core.vocabulary import ModelKind, StartRule, TokenKind, Vocabulary, load_vocabulary
from jeton.errors import EncodingError, MissingExtraError, TokenizerError, TokenizerMismatchError


def _toy(**changes: Any) -> dict[str, Any]:
    model = {"type": "BPE", "vocab": {"a": 0, "b": 1, "ab": 2}, "merges": [["a", "b"]]}
    document = {
        "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True},
        "decoder": {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True},
        "model": {**model, **changes.pop("model", {})},
    }
    return {**document, **changes}


def _added(token_id: Any, content: Any, special: bool = False) -> dict[str, Any]:
    flags = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False)
    return {"id": token_id, "content": content, "special": special, **flags}


BAD_DOCUMENTS: dict[str, tuple[Any, str]] = {
    "a list": ([1], "must be an object"),
    "no model": ({"version": "1.0"}, 'object "model"'),
    "model is a string": (_toy(model={}) | {"model": "BPE"}, 'object "model"'),
    "vocab is a number": (_toy(model={"vocab": 3}), "must be an object of ids"),
    "empty": (_toy(model={"vocab": {}, "merges": []}), "no tokens"),
    "negative id": (_toy(model={"vocab": {"a": -1}, "merges": []}), "id -1"),
    "string id": (_toy(model={"vocab": {"a": "0"}, "merges": []}), "has id '0'"),
    "true as id": (_toy(model={"vocab": {"a": True}, "merges": []}), "has id True"),
    "huge id": (_toy(model={"vocab": {"a": 10**12}, "merges": []}), "whole numbers from 0"),
    "far hole": (_toy(model={"vocab": {"a": 9_000_000}, "merges": []}), "only 1 tokens"),
    "shared id": (_toy(model={"vocab": {"a": 0, "b": 0}, "merges": []}), "belongs to both"),
    "missing merge": (_toy(model={"merges": ["a c"]}), "merge 0 .* lacks"),
    "odd merge": (_toy(model={"merges": ["a b c"]}), "must be two tokens"),
    "merges is a number": (_toy(model={"merges": 5}), "merges must be a list"),
    "merge prefix is a number": (_toy(model={"continuing_subword_prefix": 1}), "must be a string"),
    "unk is a number": (_toy(model={"unk_token": 1}), "unk_token must be a string"),
    "added is an object": (_toy(added_tokens={}), "must be a list"),
    "added without content": (_toy(added_tokens=[{"id": 3}]), 'with a "content"'),
    "added without id": (_toy(added_tokens=[{"content": "x"}]), "has id None"),
    "added takes an id": (_toy(added_tokens=[_added(0, "x")]), "belongs to 'a'"),
    "added far away": (_toy(added_tokens=[_added(15_000_000, "x")]), "only 4 tokens"),
    "decoder is a list": (_toy(decoder=[]), 'an object with a "type"'),
    "unknown decoder": (_toy(decoder={"type": "CTC"}), "no fixed bytes"),
    "sequence without list": (_toy(decoder={"type": "Sequence"}), "needs a list"),
    "bad pattern": (_toy(decoder={"type": "Replace", "pattern": {"Regex": "("}}), "bad pattern"),
    "half a surrogate": (_toy(model={"vocab": {"\ud800": 0}, "merges": []}), "not whole JSON|half"),
    "unigram rows": (_toy(model={"type": "Unigram", "vocab": [["a"]]}), "piece, score"),
    "unigram unk": (_toy(model={"vocab": [["a", 0]], "unk_id": 4}), "outside the vocabulary"),
    "unigram object": (_toy(model={"type": "Unigram"}), "must be a list"),
}


@pytest.mark.parametrize("what", BAD_DOCUMENTS)
def test_a_lying_tokenizer_json_is_refused(what: str, tmp_path: Path) -> None:
    document, message = BAD_DOCUMENTS[what]
    path = tmp_path / "tokenizer.json"
    path.write_text(json.dumps(document))
    with pytest.raises(TokenizerError, match=message):
        load_vocabulary(path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty"),
        (b'{"model": {"type": "BPE", "vo', "not whole JSON"),
        (b'{"model": "\xff"}', "not whole JSON"),
        (b"[" * 100_000, "nests too deep"),
        (b'{"model": ' + b"9" * 5000 + b"}", "not whole JSON"),
        (b"hello\n", "no known kind"),
        (b"\x00\x01\x02\x03", "no known kind"),
    ],
)
def test_a_damaged_file_is_refused(content: bytes, message: str, tmp_path: Path) -> None:
    path = tmp_path / "tokenizer"
    path.write_bytes(content)
    with pytest.raises(TokenizerError, match=message):
        load_vocabulary(path)


def test_missing_files_and_foreign_objects_are_refused(tmp_path: Path) -> None:
    with pytest.raises(TokenizerError, match="is not a file"):
        load_vocabulary(tmp_path / "nothing")
    with pytest.raises(TokenizerError, match="holds no tokenizer file"):
        load_vocabulary(tmp_path)
    with pytest.raises(TokenizerError, match="a dict is no tokenizer"):
        load_vocabulary({})


def test_what_only_the_engine_refuses_is_a_tokenizer_error() -> None:
    document = _toy(pre_tokenizer={"type": "Split", "pattern": {"Regex": "("}, "behavior": "x"})
    vocabulary = Vocabulary.from_tokenizer_json(document)
    with pytest.raises(TokenizerError, match="refuses this file"):
        vocabulary.encode("a")


def test_holes_padding_and_duplicates_are_kept() -> None:
    document = _toy(
        model={"vocab": {"a": 0, "b": 1, "ab": 2, "Ġ": 5, " ": 6}},
        added_tokens=[_added(9, "<pad>", True)],
    )
    vocabulary = Vocabulary.from_tokenizer_json(document)
    assert vocabulary.vocab_size == 10
    assert vocabulary.tokens[5] == vocabulary.tokens[6] == b" "
    assert np.flatnonzero(vocabulary.kinds == TokenKind.UNUSED).tolist() == [3, 4, 7, 8]
    assert vocabulary.decode([0, 3, 9, 2]) == b"aab"
    assert vocabulary.byte_ids[0x20] == 5


def test_added_tokens_keep_their_declared_ids() -> None:
    document = _toy(added_tokens=[_added(7, "xy"), _added(5, "<s>", True), _added(20, "b b")])
    vocabulary = Vocabulary.from_tokenizer_json(document)
    assert vocabulary.encode("axyb b") == [0, 7, 20]
    unigram = _toy(
        pre_tokenizer=None,
        decoder=None,
        model={"type": "Unigram", "vocab": [["a", -1.0], ["b", -1.0]], "unk_id": None},
        added_tokens=[_added(2, "<s>", True), _added(4, "xy")],
    )
    assert Vocabulary.from_tokenizer_json(unigram).encode_lossy("axyb") == [0, 4, 1]


@pytest.mark.parametrize("ids", [[-1], [3], [0, 99], np.array([5])])
def test_ids_out_of_range_are_refused(ids: Any) -> None:
    vocabulary = Vocabulary.from_tokenizer_json(_toy())
    for method in (vocabulary.decode, vocabulary.bytes_of, vocabulary.token_offsets):
        with pytest.raises(TokenizerMismatchError, match="has ids 0 to 2"):
            method(ids)


def test_bytes_without_a_token_are_refused_by_name() -> None:
    vocabulary = Vocabulary.from_tokenizer_json(_toy())
    assert vocabulary.encode(b"ab") == [2]
    with pytest.raises(EncodingError, match="single byte 0xFF"):
        vocabulary.encode(b"ab\xff")
    assert not vocabulary.has_all_bytes
    assert vocabulary.encode("") == vocabulary.encode_batch([])


def test_an_added_token_with_other_bytes_is_named() -> None:
    vocabulary = Vocabulary.from_tokenizer_json(_toy(added_tokens=[_added(3, "ü")]))
    assert vocabulary.tokens[3] == b"\xfc"  # the ByteLevel decoder reads its alphabet
    assert vocabulary.encode_lossy("aü") == [0, 3]
    with pytest.raises(EncodingError, match=r"added token 'ü' \(id 3\) decodes to b'\\xfc'"):
        vocabulary.encode("aü")
    assert vocabulary.encode(b"a\xfcb") == [0, 3, 1]


def test_truncation_padding_and_dropout_of_the_file_are_ignored() -> None:
    document = _toy(
        model={"dropout": 1.0},
        truncation={"direction": "Right", "max_length": 1, "strategy": "LongestFirst", "stride": 0},
        padding={
            "strategy": {"Fixed": 8},
            "direction": "Right",
            "pad_to_multiple_of": None,
            "pad_id": 0,
            "pad_type_id": 0,
            "pad_token": "a",
        },
    )
    assert Vocabulary.from_tokenizer_json(document).encode("ababa") == [2, 2, 0]


@pytest.mark.parametrize(
    ("decoder", "content", "expected"),
    [
        ({"type": "BPEDecoder", "suffix": "</w>"}, "at</w>", b"at "),
        ({"type": "Metaspace", "replacement": "_"}, "_at", b" at"),
        ({"type": "Replace", "pattern": {"Regex": "[xy]"}, "content": "-"}, "axby", b"a-b-"),
        ({"type": "Strip", "content": "#", "start": 2, "stop": 1}, "###a##", b"#a#"),
        ({"type": "Fuse"}, "ab", b"ab"),
        (None, "ab", b" ab"),
    ],
)
def test_decoders(decoder: Any, content: str, expected: bytes) -> None:
    model = {"vocab": {content: 0}, "merges": []}
    document = _toy(decoder=decoder, pre_tokenizer=None, model=model)
    assert Vocabulary.from_tokenizer_json(document).tokens == [expected]


@pytest.mark.parametrize(
    ("pre_tokenizer", "rule"),
    [
        ({"type": "Metaspace", "prepend_scheme": "first"}, StartRule.DUMMY_SPACE_FIRST),
        ({"type": "Metaspace", "prepend_scheme": "never"}, StartRule.NONE),
        ({"type": "Metaspace", "add_prefix_space": True}, StartRule.DUMMY_SPACE_UNLESS_SPACE),
        ({"type": "Metaspace", "add_prefix_space": False}, StartRule.NONE),
        ({"type": "ByteLevel", "add_prefix_space": True}, StartRule.DUMMY_SPACE_UNLESS_SPACE),
    ],
)
def test_start_rules(pre_tokenizer: Any, rule: StartRule) -> None:
    nested = {"type": "Sequence", "pretokenizers": [{"type": "Digits"}, pre_tokenizer]}
    assert Vocabulary.from_tokenizer_json(_toy(pre_tokenizer=nested)).start_rule is rule


def test_special_tokens_come_from_the_files_beside_it(tmp_path: Path) -> None:
    document = _toy(added_tokens=[_added(3, "<end>"), _added(4, "<s>", True)])
    (tmp_path / "tokenizer.json").write_text(json.dumps(document))
    (tmp_path / "tokenizer_config.json").write_text(
        json.dumps({"eos_token": {"content": "<end>"}, "unk_token": None})
    )
    (tmp_path / "generation_config.json").write_text("{ damaged")
    vocabulary = load_vocabulary(tmp_path)
    assert vocabulary.special_tokens == {"<end>": 3, "<s>": 4}
    assert (vocabulary.eos_token_id, vocabulary.bos_token_id) == (3, 4)
    (tmp_path / "tokenizer_config.json").unlink()
    (tmp_path / "generation_config.json").write_text('{"eos_token_id": [2, 4]}')
    vocabulary = load_vocabulary(str(tmp_path))
    assert vocabulary.added_tokens == {"<end>": 3}
    assert vocabulary.eos_token_id == 2


def test_live_tokenizers() -> None:
    tokenizer = Tokenizer(models.BPE({"a": 0, "b": 1, "ab": 2}, [("a", "b")]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_tokens([AddedToken("<end>")])
    assert load_vocabulary(tokenizer).encode("abb") == [2, 1]
    transformers = pytest.importorskip("transformers")
    fast = transformers.PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<end>")
    vocabulary = load_vocabulary(fast)
    assert vocabulary.eos_token_id == 3
    assert vocabulary.special_tokens == {"<end>": 3}
    assert load_vocabulary(vocabulary) is vocabulary
    assert json.loads(vocabulary.tokenizer_json or "")["model"]["vocab"]["ab"] == 2


class LiveRanks:
    """As much of a `tiktoken.Encoding` as is read."""

    name = "tiny"
    _mergeable_ranks = {b"a": 0, b"\xff": 1, b"a\xff": 2}  # noqa: RUF012
    _pat_str = r"\S+|\s"
    _special_tokens = {"<|end|>": 5}  # noqa: RUF012


def test_live_ranks() -> None:
    vocabulary = load_vocabulary(LiveRanks())
    assert (vocabulary.name, vocabulary.vocab_size) == ("tiny", 6)
    assert vocabulary.encode("aa") == [0, 0]
    assert vocabulary.encode(b"a\xff") == [0, 1]


def test_tiktoken_files(tmp_path: Path) -> None:
    path = tmp_path / "tiny.tiktoken"
    path.write_bytes(dump_ranks({b"a": 0, b"b": 1, b"1": 2, b"11": 3, b"ab": 4, b"aba": 5}))
    with pytest.raises(TokenizerError, match="pattern that cuts text is not known"):
        load_vocabulary(path)
    # a possessive count: the engine's own regex dialect would read {1,2}+ as one or more
    spec = {"name": "tiny", "pat_str": r"1{1,2}+|[ab]+", "special_tokens": {"<|endoftext|>": 8}}
    (tmp_path / "spec.json").write_text(json.dumps(spec))
    vocabulary = load_vocabulary(tmp_path)
    assert (vocabulary.vocab_size, vocabulary.eos_token_id) == (9, 8)
    assert vocabulary.encode("ababab111") == [4, 4, 4, 3, 2]
    assert vocabulary.encode("aba") == [5]
    assert vocabulary.merges.tolist() == [[2, 2, 3], [0, 1, 4], [4, 0, 5]]
    assert "pre-tokenizer drops" in (vocabulary.why_not_lossless("a?") or "")
    for pattern, special in ((r"(", {}), (r".", {"x": 0}), (r".", {"x": -1}), (r".", ["x"])):
        with pytest.raises(TokenizerError):
            Vocabulary.from_tiktoken(path, pattern, special)  # type: ignore[arg-type]
    for damage in (b"YQ== 0\n!! 1\n", b"YQ== 0\nYQ== 1\n", b"YQ== 0\nYg==\n", b"YQ== 0\nYg== 0\n"):
        path.write_bytes(damage)
        with pytest.raises(TokenizerError):
            load_vocabulary(path)


def test_rwkv_files(tmp_path: Path) -> None:
    path = tmp_path / "rwkv_vocab_tiny.txt"
    path.write_text("1 'a' 1\n2 '\\n' 1\n3 b'\\xff' 1\n4 'aé' 3\n6 \"a'\" 2\n", encoding="utf-8")
    vocabulary = load_vocabulary(tmp_path)
    assert vocabulary.model_kind is ModelKind.LONGEST_MATCH
    assert vocabulary.tokens == [b"", b"a", b"\n", b"\xff", "aé".encode(), b"", b"a'"]
    assert vocabulary.eos_token_id == 0
    assert vocabulary.encode("aéa'a\n".encode() + b"\xff") == [4, 6, 1, 2, 3]
    assert vocabulary.encode_batch(["a", b"\xff"]) == [[1], [3]]
    with pytest.raises(EncodingError, match="drops"):
        vocabulary.encode("b")
    for line in ("1 'a' 2", "1 a 1", "1 'a' 1\n1 'b' 1", "99999999 'a' 1", "1 'a"):
        path.write_text(f"2 'x' 1\n{line}\n")
        with pytest.raises(TokenizerError):
            load_vocabulary(path)


def _train_model(**options: Any) -> bytes:
    sentencepiece = pytest.importorskip("sentencepiece")
    model = io.BytesIO()
    sentences = ["the cat sat on the mat", "hello world", "größer 12 cats"] * 5
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(sentences), model_writer=model, minloglevel=2, **options
    )
    return model.getvalue()


def test_sentencepiece_bpe(tmp_path: Path) -> None:
    path = tmp_path / "tokenizer.model"
    path.write_bytes(
        _train_model(
            vocab_size=320,
            model_type="bpe",
            byte_fallback=True,
            normalization_rule_name="identity",
            remove_extra_whitespaces=False,
            user_defined_symbols=["<x>"],
        )
    )
    vocabulary = load_vocabulary(path)
    assert vocabulary.model_kind is ModelKind.SENTENCEPIECE_BPE
    assert vocabulary.start_rule is StartRule.DUMMY_SPACE_ALWAYS
    assert vocabulary.normalizer is None
    assert list(vocabulary.special_tokens) == ["<unk>", "<s>", "</s>"]
    assert (vocabulary.unk_token_id, vocabulary.bos_token_id, vocabulary.eos_token_id) == (0, 1, 2)
    assert (vocabulary.kinds == TokenKind.BYTE).sum() == 256
    samples = ["the cat", "  hats", "<s></s>", "<0x0A>\n", "▁▁", "<x> é", b"\xff\xfe the\xe4"]
    for sample in samples:
        ids = vocabulary.encode(sample)
        data = sample if isinstance(sample, bytes) else sample.encode()
        assert vocabulary.decode(ids) == data
        assert not {0, 1, 2} & set(ids)
    assert vocabulary.encode_batch(samples) == [vocabulary.encode(sample) for sample in samples]
    left, right, whole = vocabulary.merges[0].tolist()
    assert vocabulary.tokens[left] + vocabulary.tokens[right] == vocabulary.tokens[whole]


def test_sentencepiece_unigram_names_its_losses(tmp_path: Path) -> None:
    path = tmp_path / "spiece.model"
    path.write_bytes(_train_model(vocab_size=30, model_type="unigram", hard_vocab_limit=False))
    vocabulary = load_vocabulary(tmp_path)
    assert vocabulary.model_kind is ModelKind.UNIGRAM
    assert vocabulary.normalizer == "nmt_nfkc + collapse spaces"
    assert vocabulary.decode(vocabulary.encode("the cat")) == b"the cat"
    assert "nmt_nfkc" in (vocabulary.why_not_lossless("the  cat") or "")
    assert "'é'" in (vocabulary.why_not_lossless("é") or "")
    assert "0xFF" in (vocabulary.why_not_lossless(b"\xff") or "")


def test_damaged_sentencepiece_models_are_refused(tmp_path: Path) -> None:
    whole = _train_model(vocab_size=300, model_type="bpe", byte_fallback=True)
    path = tmp_path / "tokenizer.model"
    for cut in (20, 1000, len(whole) - 1):
        path.write_bytes(whole[:cut])
        with pytest.raises(TokenizerError, match="not a whole SentencePiece model"):
            load_vocabulary(path)
    path.write_bytes(whole.replace(b"<0x0A>", b"<0xZZ>"))
    with pytest.raises(TokenizerError, match="not <0xNN>"):
        load_vocabulary(path)
    path.write_bytes(_train_model(vocab_size=30, model_type="char"))
    with pytest.raises(TokenizerError, match="type char"):
        load_vocabulary(path)


def test_without_the_sentencepiece_package_bytes_still_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "tokenizer.model"
    path.write_bytes(_train_model(vocab_size=300, model_type="bpe", byte_fallback=True))
    monkeypatch.setitem(sys.modules, "sentencepiece", None)
    vocabulary = load_vocabulary(path)
    assert vocabulary.decode([vocabulary.byte_ids[0xFF]]) == b"\xff"
    with pytest.raises(MissingExtraError, match="needs the package sentencepiece"):
        vocabulary.encode("a")


def test_a_vocabulary_survives_pickling() -> None:
    vocabulary = Vocabulary.from_tokenizer_json(_toy())
    vocabulary.encode("ab")
    copy = pickle.loads(pickle.dumps(vocabulary))
    assert copy.encode("aab") == vocabulary.encode("aab")
    assert "tokens=" not in repr(vocabulary)  # a repr with 200,000 tokens helps nobody
