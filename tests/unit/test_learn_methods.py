"""What each method promises beyond the contract, on small text."""

import json
import random
from collections import Counter
from itertools import pairwise
from pathlib import Path

import pytest
from tokenizers import Tokenizer, models, trainers

from jeton.core.encode import byte_level_to_bytes
from jeton.core.texts import read_texts
from jeton.core.vocabulary import Vocabulary
from jeton.errors import ConfigError, InputError
from jeton.learn.contract import SizePoint
from jeton.learn.methods.bpe import Bpe
from jeton.learn.methods.extend import Extend
from jeton.learn.methods.kl3m_char import Kl3mChar, num_characters
from jeton.learn.methods.parity_bpe import ParityBpe
from jeton.learn.methods.superbpe import SuperBpe, word_veto
from jeton.learn.methods.supertokens import Supertokens, random_chunks
from jeton.learn.pretokenize import ACROSS_PATTERN, Pretokenizer
from jeton.learn.prune import choose_size, prune_vocabulary

GOLDEN = Path(__file__).resolve().parents[1] / "golden" / "learn"
METHODS = {
    "bpe": Bpe,
    "extend": Extend,
    "superbpe": SuperBpe,
    "supertokens": Supertokens,
    "kl3m_char": Kl3mChar,
    "parity_bpe": ParityBpe,
}


def prose(num_sentences: int, seed: int = 0) -> list[str]:
    rng = random.Random(seed)
    phrases = ["by the way", "on the other hand", "of the", "in a sense", "as well as", "it is"]
    names = ["".join(rng.choices("abcdefghik", k=rng.randint(3, 6))) for _ in range(25)]
    return [
        " ".join(rng.choice([*phrases, *names]) for _ in range(12)) + ": so, 123!\n"
        for _ in range(num_sentences)
    ]


@pytest.mark.parametrize("name", sorted(METHODS))
def test_golden(name: str, tmp_path: Path) -> None:
    case = json.loads((GOLDEN / f"{name}.json").read_text(encoding="utf-8"))
    base = None
    if "base" in case:
        base = (
            Bpe(**case["base"]["options"])
            .learn(case["base"]["texts"], vocab_size=case["base"]["vocab_size"])
            .vocabulary()
        )
    learner = METHODS[name](**case["options"])
    for file, text in case.get("files", {}).items():
        (tmp_path / file).write_text(text, encoding="utf-8")
    texts = case["texts"] if "texts" in case else read_texts(tmp_path)
    learned = learner.learn(texts, base=base, vocab_size=case["vocab_size"])
    tokens = learned.vocabulary().tokens[-len(case["new_tokens"]) :]
    assert [token.decode() for token in tokens] == case["new_tokens"]
    for text, pieces in case["segmentations"].items():
        vocabulary = learned.vocabulary()
        assert [vocabulary.tokens[i].decode() for i in vocabulary.encode(text)] == pieces


def test_superbpe_equals_the_private_use_oracle() -> None:
    """Stage 2 is stock BPE over stage-1 tokens written as single private-use characters."""
    texts = prose(60)
    learned = SuperBpe(transition=0.5, max_words=0).learn(texts, vocab_size=420)
    ours = json.loads(learned.tokenizer_json)["model"]["merges"]
    first = SuperBpe(transition=1.0, max_words=0).learn(texts, vocab_size=256 + 82)
    merges = json.loads(first.tokenizer_json)["model"]["merges"]
    assert ours[:82] == merges
    document = json.loads(first.tokenizer_json)
    stage_one = Vocabulary.from_tokenizer_json(
        {
            **document,
            "pre_tokenizer": {
                "type": "ByteLevel",
                "add_prefix_space": False,
                "trim_offsets": True,
                "use_regex": False,
            },
        }
    )
    spans: Counter[str] = Counter()
    for text in texts:
        spans.update(Pretokenizer.from_pattern(ACROSS_PATTERN).count(text))
    shift = 0xE000
    corpus = [
        "".join(chr(shift + i) for i in stage_one.encode(span))
        for span, count in sorted(spans.items())
        for _ in range(count)
    ]
    alphabet = [chr(shift + i) for i in range(stage_one.vocab_size)]
    oracle = Tokenizer(models.BPE())
    trainer = trainers.BpeTrainer(vocab_size=420, initial_alphabet=alphabet, show_progress=False)
    oracle.train_from_iterator(corpus, trainer)
    names = list(stage_one.tokens)
    theirs = [
        [b"".join(names[ord(c) - shift] for c in part) for part in pair]
        for pair in json.loads(oracle.to_str())["model"]["merges"]
    ]
    mine = [[byte_level_to_bytes(part) for part in pair] for pair in ours[82:]]
    assert mine == theirs


def test_superbpe_spans_words_and_obeys_its_vetoes() -> None:
    texts = prose(80)
    learned = SuperBpe(transition=0.6).learn(texts, vocab_size=400)
    tokens = learned.vocabulary().tokens
    assert b"on the other hand" in {token.strip() for token in tokens}
    assert all(b": " not in token for token in tokens)
    assert max(sum(1 for part in token.split(b" ") if part) for token in tokens) <= 4
    plain = Bpe().learn(texts, vocab_size=400)
    assert learned.bytes_per_token > 1.12 * plain.bytes_per_token
    veto = word_veto(2)
    assert not veto(b" a", b" b") and veto(b" a b", b" c")
    with pytest.raises(ConfigError, match="transition"):
        SuperBpe(transition=1.5)


def test_supertokens_cover_several_words_and_chunks_join() -> None:
    texts = prose(80)
    learned = Supertokens().learn(texts, vocab_size=400)
    assert any(token.strip().count(b" ") for token in learned.vocabulary().tokens)
    assert learned.bytes_per_token > Bpe().learn(texts, vocab_size=400).bytes_per_token
    for text in texts[:5]:
        assert "".join(random_chunks(text, 1, 3, seed=1)) == text
    with pytest.raises(ConfigError, match="min_words"):
        Supertokens(min_words=3, max_words=2)


def test_kl3m_char_tokens_are_short_and_stay_under_a_wrong_letter() -> None:
    texts = prose(80) + ["naïveté élève 語語語"] * 5
    learned = Kl3mChar(max_characters=3).learn(texts, vocab_size=340)
    vocabulary = learned.vocabulary()
    ordinary = [t for t in vocabulary.tokens if t]
    assert max(map(num_characters, ordinary)) == 3
    wide = Bpe().learn(texts, vocab_size=340).vocabulary()

    def changed(v: Vocabulary) -> float:
        """Share of the tokens that one wrong letter in each word changes."""
        total = lost = 0
        for text in texts[:40]:
            words = text.split(" ")
            wrong = " ".join(w[:1] + "z" + w[2:] if len(w) > 3 else w for w in words)
            before, after = Counter(v.encode(text)), Counter(v.encode(wrong))
            total += sum(len(v.tokens[i]) * n for i, n in before.items())
            lost += sum(len(v.tokens[i]) * n for i, n in (before - after).items())
        return lost / total

    assert changed(vocabulary) < 0.7 * changed(wide)


def test_parity_bpe_serves_the_language_that_is_worst_off(tmp_path: Path) -> None:
    rng = random.Random(0)
    for language, letters, num_words in (("aa", "abcd", 900), ("bb", "wxyz", 90)):
        words = ["".join(rng.choices(letters, k=6)) for _ in range(12)]
        text = " ".join(rng.choice(words) for _ in range(num_words))
        (tmp_path / f"{language}.txt").write_text(text, encoding="utf-8")
    texts = read_texts(tmp_path)

    def gap(learned_json: str) -> float:
        vocabulary = Vocabulary.from_tokenizer_json(learned_json)
        rates = [len(text.encode()) / len(vocabulary.encode(text)) for text in texts]
        return abs(rates[0] - rates[1])

    fair = ParityBpe().learn(texts, vocab_size=300)
    plain = Bpe().learn(texts, vocab_size=300)
    assert gap(fair.tokenizer_json) < 0.3 * gap(plain.tokenizer_json)
    assert "aa" in fair.notes[0]
    same = ParityBpe(parallel=str(tmp_path)).learn(texts, vocab_size=300)
    assert same.vocab_size == 300
    hybrid = ParityBpe(global_share=1.0).learn(texts, vocab_size=300)
    assert hybrid.bytes_per_token == pytest.approx(plain.bytes_per_token)
    (tmp_path / "half").mkdir()
    (tmp_path / "half" / "aa.txt").write_text("abcd", encoding="utf-8")
    with pytest.raises(InputError, match="no parallel text for: bb"):
        ParityBpe(parallel=str(tmp_path / "half")).learn(
            read_texts([tmp_path / "aa.txt", tmp_path / "bb.txt"]), vocab_size=300
        )


def test_pruning_takes_what_the_text_never_needs() -> None:
    texts = prose(60)
    base = Bpe(special_tokens="<s>").learn([*texts, *prose(60, seed=9)], vocab_size=420)
    whole = base.vocabulary()
    pruned = prune_vocabulary(whole, texts)
    vocabulary = pruned.vocabulary()
    assert pruned.vocab_size < 420
    assert pruned.bytes_per_token == pytest.approx(pruned.source_bytes_per_token)
    assert [vocabulary.tokens[i] for i in vocabulary.encode(texts[0])] == [
        whole.tokens[i] for i in whole.encode(texts[0])
    ]
    used = Counter(i for text in texts for i in vocabulary.encode(text))
    parts = {part for rule in vocabulary.merges.tolist() for part in rule[:2]}
    assert all(used[i] or i in parts for i in range(257, vocabulary.vocab_size))
    smaller = prune_vocabulary(whole, texts, 300)
    assert smaller.vocab_size == smaller.vocabulary().vocab_size == 300
    assert smaller.vocabulary().special_tokens == {"<s>": 0}
    for text in [*texts, "\x00\xff 語"]:
        assert smaller.vocabulary().decode(smaller.vocabulary().encode(text)) == text.encode()
    for size in (256, 420, 500):
        with pytest.raises(ConfigError, match="not possible"):
            prune_vocabulary(whole, texts, size)
    both = Extend(prune_unused=True).learn(texts, whole, pruned.vocab_size + 20)
    assert both.vocab_size == pruned.vocab_size + 20
    assert both.bytes_per_token > pruned.bytes_per_token


def test_the_size_that_pays() -> None:
    sizes = [1000 * 2**k for k in range(8)]
    curve = [SizePoint(size, 3 + 0.3 * k) for k, size in enumerate(sizes)]
    chosen, costs = choose_size(curve, hidden_size=64, body_parameters=3_000_000)
    assert costs[sizes.index(chosen.vocab_size)] == min(costs)
    assert all(a >= b for a, b in pairwise(costs[: sizes.index(chosen.vocab_size) + 1]))
    # A greater body makes a greater vocabulary pay.
    larger, _ = choose_size(curve, hidden_size=64, body_parameters=10**9)
    assert larger.vocab_size > chosen.vocab_size
    with pytest.raises(ConfigError, match="0 points"):
        choose_size([], 64, 1)


def test_whole_pretokens_are_taken_where_the_base_does_so() -> None:
    """A base with `ignore_merges` and a token that its merges cannot make."""
    texts = prose(40)
    document = json.loads(Bpe().learn(texts, vocab_size=300).tokenizer_json)
    document["model"]["ignore_merges"] = True
    document["model"]["vocab"]["Ġhand"] = 300
    base = Vocabulary.from_tokenizer_json(document)
    num_bytes = sum(map(len, texts))

    def rate(vocabulary: Vocabulary) -> float:
        return num_bytes / sum(map(len, vocabulary.encode_batch(texts)))

    for spans in ("source", "line"):
        learned = Extend(spans=spans).learn(texts, base, 340)
        assert learned.source_bytes_per_token == pytest.approx(rate(base))
        assert learned.bytes_per_token == pytest.approx(rate(learned.vocabulary()))
    pruned = prune_vocabulary(base, texts[:3])
    assert b" hand" in pruned.vocabulary().tokens or not any(" hand" in t for t in texts[:3])
    for size in (280, None):
        pruned = prune_vocabulary(base, texts, size)
        assert pruned.source_bytes_per_token == pytest.approx(rate(base))
        assert pruned.bytes_per_token == pytest.approx(rate(pruned.vocabulary()))
