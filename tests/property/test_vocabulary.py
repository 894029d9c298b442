"""Laws of `Vocabulary` over arbitrary bytes and text, on tokenizers trained here."""

import contextlib
import copy
import functools
import itertools
import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, trainers

from jeton.core.byte_index import ByteIndex
from jeton.core.encode import LongestMatch, bpe_by_rank, recover_merges, split_utf8_runs
from jeton.core.formats.tiktoken import dump_ranks
from jeton.core.vocabulary import TokenKind, Vocabulary
from jeton.errors import EncodingError, JetonError, TokenizerError

CORPUS = [
    "the cat sat on the mat, the dog ate the cat's 12 hats  and   more",
    "def f(x):\n    return x + 1\n\n\tprint('été')",
    "größer naïve café Привет мир 你好 世界",
    "<s> looks like </s> and <0x0A> too ▁ and <|end|>",
] * 4
SPECIAL = ["<unk>", "<s>", "</s>", "<|end|>"]
FALLBACK_DECODER = {
    "type": "Sequence",
    "decoders": [
        {"type": "Replace", "pattern": {"String": "▁"}, "content": " "},
        {"type": "ByteFallback"},
        {"type": "Fuse"},
        {"type": "Strip", "content": " ", "start": 1, "stop": 0},
    ],
}
PREPEND = {
    "type": "Sequence",
    "normalizers": [
        {"type": "Prepend", "prepend": "▁"},
        {"type": "Replace", "pattern": {"String": " "}, "content": "▁"},
    ],
}


def _train(model: Any, trainer: Any, pre_tokenizer: Any, normalizer: Any = None) -> dict[str, Any]:
    tokenizer = Tokenizer(model)
    tokenizer.pre_tokenizer = pre_tokenizer
    if normalizer is not None:
        tokenizer.normalizer = normalizer
    tokenizer.train_from_iterator(CORPUS, trainer)
    document: dict[str, Any] = json.loads(tokenizer.to_str())
    return document


def _byte_level(add_prefix_space: bool) -> dict[str, Any]:
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        special_tokens=["<s>", "<|end|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    pre = pre_tokenizers.ByteLevel(add_prefix_space=add_prefix_space)
    document = _train(models.BPE(), trainer, pre)
    document["decoder"] = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True}
    return document


def _with_byte_fallback(prepends: bool, scheme: str = "first") -> dict[str, Any]:
    trainer = trainers.BpeTrainer(
        vocab_size=480,
        special_tokens=[*SPECIAL, *(f"<0x{byte:02X}>" for byte in range(256))],
        show_progress=False,
    )
    pre = pre_tokenizers.Metaspace(prepend_scheme="never", split=False)
    document = _train(models.BPE(unk_token="<unk>"), trainer, pre)
    document["added_tokens"] = document["added_tokens"][: len(SPECIAL)]
    document["model"]["byte_fallback"] = True
    document["decoder"] = FALLBACK_DECODER
    if prepends:
        document["normalizer"], document["pre_tokenizer"] = PREPEND, None
    else:
        document["pre_tokenizer"]["prepend_scheme"] = scheme
    return document


def _unigram(byte_fallback: bool) -> dict[str, Any]:
    trainer = trainers.UnigramTrainer(
        vocab_size=150, special_tokens=SPECIAL, unk_token="<unk>", show_progress=False
    )
    pre = pre_tokenizers.Metaspace(prepend_scheme="always")
    document = _train(models.Unigram(), trainer, pre)
    document["decoder"] = FALLBACK_DECODER
    if byte_fallback:
        document["model"]["vocab"] += [[f"<0x{byte:02X}>", -5.0] for byte in range(256)]
        document["model"]["byte_fallback"] = True
    return document


def _word_piece() -> dict[str, Any]:
    trainer = trainers.WordPieceTrainer(
        vocab_size=200, special_tokens=["[UNK]", "[CLS]"], show_progress=False
    )
    document = _train(
        models.WordPiece(unk_token="[UNK]"),
        trainer,
        pre_tokenizers.BertPreTokenizer(),
        normalizers.BertNormalizer(lowercase=True),
    )
    document["decoder"] = {"type": "WordPiece", "prefix": "##", "cleanup": True}
    return document


BUILDERS = {
    "byte_level": lambda: _byte_level(False),
    "byte_level_prefix": lambda: _byte_level(True),
    "fallback_prepend": lambda: _with_byte_fallback(True),
    "fallback_first": lambda: _with_byte_fallback(False),
    "fallback_always": lambda: _with_byte_fallback(False, "always"),
    "fallback_never": lambda: _with_byte_fallback(False, "never"),
    "unigram_fallback": lambda: _unigram(True),
    "unigram": lambda: _unigram(False),
    "word_piece": _word_piece,
}
TOTAL = [name for name in BUILDERS if name.startswith(("byte_level", "fallback", "unigram_f"))]


@functools.cache  # not fixtures: hypothesis would print them whole with a failing example
def document_of(name: str) -> dict[str, Any]:
    return BUILDERS[name]()


@functools.cache
def vocabulary_of(name: str) -> Vocabulary:
    return Vocabulary.from_tokenizer_json(document_of(name), name)


NASTY = ["<s>", "</s>", "<|end|>", "<0x0A>", "<<0xff>", "▁", "▁▁", " ", "  ", "\n", "é", "e\u0301"]
NASTY += ["\u0301", "\0", "\ufeff", "\ufffd", "你好", "🦙", "the", " the", "\ufdd01\ufdd0", "[UNK]"]
texts = st.lists(st.one_of(st.sampled_from(NASTY), st.text(max_size=4)), max_size=8).map("".join)
datas = st.lists(
    st.one_of(
        st.binary(max_size=4),
        texts.map(lambda text: text.encode()),
        st.sampled_from([b"\xe4\xbd", b"\xc0\xaf", b"\xed\xa0\x80", b"\xf5", b"\xff"]),
    ),
    max_size=4,
).map(b"".join)
law = settings(derandomize=True, deadline=None, max_examples=120, database=None)


@pytest.mark.parametrize("name", TOTAL)
@law
@given(data=st.one_of(datas, texts.map(lambda text: text.encode())))
def test_vocabularies_with_all_bytes_write_any_bytes(name: str, data: bytes) -> None:
    vocabulary = vocabulary_of(name)
    ids = vocabulary.encode(data)
    assert vocabulary.decode(ids) == data
    assert vocabulary.why_not_lossless(data) is None
    assert not set(vocabulary.kinds[ids].tolist()) & {TokenKind.SPECIAL, TokenKind.UNUSED}
    offsets = vocabulary.token_offsets(ids).tolist()
    assert offsets == [len(vocabulary.decode(ids[: i + 1])) for i in range(len(ids))]
    assert vocabulary.encode_batch([data, data]) == [ids, ids]


@pytest.mark.parametrize("name", ["unigram", "word_piece"])
@law
@given(data=st.one_of(datas, texts.map(lambda text: text.encode())))
def test_lossy_vocabularies_are_exact_or_name_the_reason(name: str, data: bytes) -> None:
    vocabulary = vocabulary_of(name)
    reason = vocabulary.why_not_lossless(data)
    if reason is None:
        assert vocabulary.decode(vocabulary.encode(data)) == data
    else:
        assert len(reason) > 10
        with pytest.raises(EncodingError, match="cannot write these bytes exactly"):
            vocabulary.encode(data)
    lossy = vocabulary.encode_lossy(data)
    unknown = {vocabulary.unk_token_id}
    assert not {i for i in lossy if vocabulary.kinds[i] == TokenKind.SPECIAL} - unknown


@pytest.mark.parametrize("name", ["byte_level", "fallback_prepend", "fallback_never", "unigram"])
@law
@given(seed=st.lists(st.integers(0, 10**6), max_size=12))
def test_bytes_are_those_of_the_tokenizers_own_decoder(
    name: str,
    seed: list[int],
) -> None:
    vocabulary = vocabulary_of(name)
    ids = [number % vocabulary.vocab_size for number in seed]
    theirs = Tokenizer.from_str(json.dumps(document_of(name))).decode(ids, skip_special_tokens=True)
    strips = document_of(name)["decoder"] == FALLBACK_DECODER
    ours = vocabulary.bytes_of(ids)
    ours = ours[1:] if strips and ours[:1] == b" " else ours
    if "\ufffd" not in theirs:  # they write U+FFFD for broken UTF-8, each library in its own way
        assert ours.decode() == theirs


@law
@given(data=datas)
def test_runs_of_utf8_are_maximal_and_lose_nothing(data: bytes) -> None:
    runs = list(split_utf8_runs(data))
    assert b"".join(r if isinstance(r, bytes) else r.encode() for r in runs) == data
    kinds = [type(run) for run in runs]
    assert all(a is not b for a, b in itertools.pairwise(kinds))


@law
@given(
    tokens=st.lists(st.binary(min_size=1, max_size=5), max_size=12),
    data=st.lists(st.sampled_from([b"a", b"ab", b"b", b"\xff"]), max_size=12).map(b"".join),
)
def test_longest_match_takes_the_longest(tokens: list[bytes], data: bytes) -> None:
    tokens = [b"a", b"b", b"\xff", b"ab", b"aab", b"abab", *tokens]
    ids = LongestMatch(tokens).encode(data)
    assert b"".join(tokens[i] for i in ids) == data
    position = 0
    for i in ids:
        fitting = [len(token) for token in tokens if data.startswith(token, position)]
        assert len(tokens[i]) == max(fitting)
        position += len(tokens[i])


@law
@given(data=st.text("theca \n", max_size=30).map(lambda text: text.encode()))
def test_recovered_merges_rebuild_bpe_by_rank(data: bytes) -> None:
    vocabulary = vocabulary_of("byte_level")
    special = [vocabulary.kinds[i] == TokenKind.SPECIAL for i in range(vocabulary.vocab_size)]
    ranks = {token: i for i, token in enumerate(vocabulary.tokens) if not special[i]}
    order = {pair: rank for rank, pair in enumerate(recover_merges(ranks))}
    assert len(order) == len(vocabulary.merges)
    parts = [data[i : i + 1] for i in range(len(data))]
    while pairs := [p for p in itertools.pairwise(parts) if p in order]:
        best = min(pairs, key=order.__getitem__)
        i = next(i for i, pair in enumerate(itertools.pairwise(parts)) if pair == best)
        parts[i : i + 2] = [parts[i] + parts[i + 1]]
    assert bpe_by_rank(data, ranks) == parts


@law
@given(data=datas)
def test_a_rank_file_encodes_like_its_tokenizer_json(
    tmp_path_factory: pytest.TempPathFactory, data: bytes
) -> None:
    vocabulary = vocabulary_of("byte_level")
    folder = tmp_path_factory.getbasetemp() / "ranks"
    if not folder.exists():
        folder.mkdir()
        ranks = {token: i for i, token in enumerate(vocabulary.tokens) if token}
        (folder / "tiny.tiktoken").write_bytes(dump_ranks(ranks))
    pattern = r"'(?:[sdmt]|ll|ve|re)| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
    from_ranks = RANKS.setdefault(
        "tiny",
        Vocabulary.from_tiktoken(folder / "tiny.tiktoken", pattern, vocabulary.special_tokens),
    )
    assert from_ranks.tokens == vocabulary.tokens
    assert from_ranks.kinds.tolist() == vocabulary.kinds.tolist()
    assert from_ranks.encode(data) == vocabulary.encode(data)


RANKS: dict[str, Vocabulary] = {}


@law
@given(prefix=st.one_of(datas, st.sampled_from([b"t", b"th", b" t", b"\xff", b"\xc3"])))
def test_each_prefix_is_one_range(prefix: bytes) -> None:
    for name in ("byte_level", "fallback_first"):
        vocabulary = vocabulary_of(name)
        index = INDEXES.setdefault(name, ByteIndex(vocabulary))
        for cut in {prefix[:1], prefix[:2], prefix}:
            low, high = index.prefix_range(cut)
            expected = {i for i, t in enumerate(vocabulary.tokens) if t and t.startswith(cut)}
            assert set(index.ids[low:high].tolist()) == expected
            if not expected:
                continue
            bounds = index.next_byte_bounds(low, high, len(cut))
            assert bounds[-1] == high
            equal = {i for i in expected if vocabulary.tokens[i] == cut}
            assert set(index.ids[low : bounds[0]].tolist()) == equal
            for byte in (0x20, 0x68, 0xC3, 0xFF):
                continued = {
                    i for i in expected if vocabulary.tokens[i].startswith(cut + bytes([byte]))
                }
                assert set(index.ids[bounds[byte] : bounds[byte + 1]].tolist()) == continued


INDEXES: dict[str, ByteIndex] = {}

HOSTILE: list[Any] = [
    None, True, -1, 2**31, 2**63, 1.5, float("nan"), "", "\ud800", "x", [], {}, [[]], [None],
    [{"type": "Sequence"}], {"type": "Sequence"}, {"type": 3}, {"type": "ByteLevel"},
    {"type": "CTC"}, {"String": ""}, {"Regex": "("}, {"a": -1}, {"a": 0, "b": 0}, ["a b c"],
    [["a"]], [{"id": 3, "content": "<s>"}], [{"id": 16_000_000, "content": "y"}], [["<unk>", "0"]],
]  # fmt: skip


@pytest.mark.parametrize("name", ["byte_level", "fallback_first", "unigram_fallback", "word_piece"])
@settings(derandomize=True, deadline=None, max_examples=200, database=None)
@given(data=st.data())
def test_a_mutated_tokenizer_json_loads_or_is_refused(name: str, data: st.DataObject) -> None:
    document = copy.deepcopy(document_of(name))
    for _ in range(data.draw(st.integers(1, 2))):
        node: Any = document
        for _ in range(6):
            keys = list(node) if isinstance(node, dict) else list(range(len(node)))
            key = data.draw(st.sampled_from(keys[:12] + keys[-3:]))
            inner = node[key]
            if not isinstance(inner, (dict, list)) or not inner or data.draw(st.booleans()):
                break
            node = inner
        if data.draw(st.integers(0, 5)) == 0:
            del node[key]
        else:
            node[key] = copy.deepcopy(data.draw(st.sampled_from(HOSTILE)))
    try:
        vocabulary = Vocabulary.from_tokenizer_json(document)
    except TokenizerError:
        return
    with contextlib.suppress(JetonError):
        ids = vocabulary.encode("the cät <s> \n")
        assert vocabulary.decode(ids) == "the cät <s> \n".encode()
    with contextlib.suppress(JetonError):
        vocabulary.encode(b"\xff the")
        vocabulary.encode_batch(["", "a b"])
    assert vocabulary.merges.shape[1] == 3


@settings(derandomize=True, deadline=None, max_examples=60, database=None)
@given(cut=st.floats(0, 1, exclude_max=True), noise=st.binary(max_size=3))
def test_a_cut_off_file_is_refused(
    tmp_path_factory: pytest.TempPathFactory,
    cut: float,
    noise: bytes,
) -> None:
    whole = json.dumps(document_of("byte_level")).encode()
    path = tmp_path_factory.getbasetemp() / "tokenizer.json"
    path.write_bytes(whole[: int(cut * len(whole))] + noise)
    with pytest.raises(TokenizerError):
        Vocabulary.from_file(path)
