"""Pruning and extending vocabularies with byte fallback, as SentencePiece makes them."""

import json
import re

import numpy as np
import pytest
from tokenizers import Tokenizer, processors

from jeton.core.vocabulary import TokenKind, Vocabulary
from jeton.errors import ConfigError, InputError, UnsupportedModelError
from jeton.learn.methods.extend import Extend
from jeton.learn.prune import prune_vocabulary
from jeton.testing.models import tiny_fallback_tokenizer, tiny_unigram_tokenizer


@pytest.mark.parametrize("kind", ["normalizer", "metaspace", "unigram"])
def test_pruning_with_byte_fallback_keeps_the_encoding(kind: str) -> None:
    if kind == "unigram":
        tokenizer = tiny_unigram_tokenizer()
    else:
        tokenizer = tiny_fallback_tokenizer(has_metaspace=kind == "metaspace")
        tokenizer.post_processor = processors.TemplateProcessing("<s> $A", None, [("<s>", 0)])
        tokenizer.add_special_tokens(["<end>"])
    whole = Vocabulary.from_tokenizer_json(tokenizer.to_str())
    texts = ["the then in a hand", " then\nthe é (1)\n", "<s><0x0A>▁ hand"]
    pruned = prune_vocabulary(whole, texts)
    vocabulary = pruned.vocabulary()
    assert pruned.vocab_size == vocabulary.vocab_size == pruned.num_kept < whole.vocab_size
    assert pruned.bytes_per_token == pruned.source_bytes_per_token
    for text in texts:
        ids, before = vocabulary.encode(text), whole.encode(text)
        assert [(vocabulary.tokens[i], vocabulary.kinds[i]) for i in ids] == [
            (whole.tokens[i], whole.kinds[i]) for i in before
        ]
    assert vocabulary.has_all_bytes
    assert list(vocabulary.special_tokens) == list(whole.special_tokens)
    used = {i for text in texts for i in vocabulary.encode(text)}
    parts = {part for rule in vocabulary.merges.tolist() for part in rule[:2]}
    is_text = vocabulary.kinds == TokenKind.TEXT
    spared = set(np.flatnonzero(is_text).tolist()) - used - parts
    assert [vocabulary.tokens[i] for i in spared] == [b"qx"] * (kind == "unigram")
    for data in ["zebra jumping", "\x00\r\n語", b"\xff\xfe", " "]:
        assert vocabulary.decode(vocabulary.encode(data)) == (
            data if isinstance(data, bytes) else data.encode()
        )
    smaller = prune_vocabulary(whole, texts, 266).vocabulary()
    assert smaller.vocab_size == 266
    for text in [*texts, "zebra"]:
        assert smaller.decode(smaller.encode(text)) == text.encode()
    if kind != "unigram":  # the post-processor knows the new ids
        after = Tokenizer.from_str(pruned.tokenizer_json)
        assert after.encode("the").ids[0] == after.token_to_id("<s>") == 0
        assert after.token_to_id("<end>") == vocabulary.special_tokens["<end>"]
    for size in (200, whole.vocab_size):
        with pytest.raises(ConfigError, match="not possible"):
            prune_vocabulary(whole, texts, size)
    with pytest.raises(InputError, match="empty"):
        prune_vocabulary(whole, [""])


def test_a_base_without_all_bytes_is_neither_pruned_nor_extended() -> None:
    document = json.loads(tiny_fallback_tokenizer().to_str())
    del document["model"]["vocab"]["<0x41>"]
    base = Vocabulary.from_tokenizer_json(document)
    with pytest.raises(UnsupportedModelError, match="all 256 byte tokens"):
        prune_vocabulary(base, ["the"])
    with pytest.raises(UnsupportedModelError, match="all 256 byte tokens"):
        Extend().learn(["the the"], base, 310)


def test_merges_of_a_base_across_words_stay_exact() -> None:
    """A base with tokens that hold a space inside and digits side by side."""
    document = json.loads(tiny_fallback_tokenizer().to_str())
    vocab = document["model"]["vocab"]
    for left, right in (("▁the", "▁a"), ("1", "2"), ("12", "3")):
        vocab[left + right] = len(vocab)
        document["model"]["merges"].append([left, right])
    base = Vocabulary.from_tokenizer_json(document)
    texts = ["the an 12345 <the the a 123 12 451>\n" * 5, "the hand and the ant 4512 912 " * 4]
    learned = Extend().learn(texts, base, base.vocab_size + 12)
    vocabulary = learned.vocabulary()
    num_bytes = sum(map(len, texts))
    assert learned.source_bytes_per_token == pytest.approx(
        num_bytes / sum(map(len, base.encode_batch(texts)))
    )
    assert learned.bytes_per_token == pytest.approx(
        num_bytes / sum(map(len, vocabulary.encode_batch(texts)))
    )
    new = vocabulary.tokens[base.vocab_size :]
    assert not any(re.search(rb"[3-9]\d", token) for token in new), new
    both = Extend(prune_unused=True).learn(texts, base, 290)
    assert both.vocab_size == 290 == both.num_kept + both.num_new
    assert both.bytes_per_token > learned.source_bytes_per_token
