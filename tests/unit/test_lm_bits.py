"""Bits per byte: every byte paid for once, equal to the full forward where the context allows."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from jeton.errors import ConfigError, EncodingError
from jeton.lm.bits import bits_per_byte, make_windows
from jeton.lm.load import LanguageModel
from jeton.testing.models import CHAIN_ONLY_FAMILIES, FAMILIES, tiny_language_model

TEXT = "the other and another thing are not at the inn, says Zoë"
LM = tiny_language_model(seed=3)


def brute_force_bits(lm: LanguageModel, data: bytes | str, context: int | None = None) -> float:
    """One forward per token, with at most `context` tokens before it; BOS when there is one."""
    ids = lm.vocabulary.encode(data)
    has_bos = lm.vocabulary.bos_token_id is not None
    sequence = [lm.vocabulary.bos_token_id] * has_bos + ids
    bits = 0.0 if has_bos else math.log2(lm.vocabulary.vocab_size)
    for place in range(1, len(sequence)):
        left = sequence[max(0, place - (context or place)) : place]
        with torch.no_grad():
            logprobs = lm.model(torch.tensor([left])).logits[0, -1].double().log_softmax(-1)
        bits -= float(logprobs[sequence[place]]) / math.log(2)
    return bits


@settings(derandomize=True)
@given(st.integers(0, 60), st.integers(1, 20), st.data())
def test_windows_score_each_position_once(length, context, data):
    stride = data.draw(st.integers(1, context))
    scored = []
    for window in make_windows(length, context, stride):
        assert 1 <= window.stop - 1 - window.start <= context
        assert window.start < window.first
        scored += range(window.first, window.stop)
    assert scored == list(range(1, length))


@pytest.mark.parametrize("family", FAMILIES + CHAIN_ONLY_FAMILIES)
@pytest.mark.parametrize("has_bos", [True, False])
def test_whole_text_equals_brute_force(family, has_bos):
    lm = tiny_language_model(family, has_bos=has_bos)
    found = bits_per_byte(lm, TEXT)
    assert found.total_bits == pytest.approx(brute_force_bits(lm, TEXT), rel=1e-6)
    assert found.num_bytes == len(TEXT.encode())
    assert found.num_tokens == len(lm.vocabulary.encode(TEXT))
    assert found.bits_per_byte == found.total_bits / found.num_bytes
    assert found.bytes_per_token == found.num_bytes / found.num_tokens
    assert found.first_token == ("bos" if has_bos else "uniform")
    assert found.num_windows == 1


@settings(derandomize=True, deadline=None, max_examples=40)
@given(
    data=st.lists(st.binary(max_size=30), min_size=1, max_size=4).filter(any),
    has_bos=st.booleans(),
    context=st.integers(40, 256),
    batch_size=st.none() | st.integers(1, 3),
)
def test_enough_context_equals_full_forward_over_any_bytes(data, has_bos, context, batch_size):
    lm = LM if has_bos else tiny_language_model(seed=3, has_bos=False)
    found = bits_per_byte(lm, data, context=context, batch_size=batch_size)
    expected = sum(brute_force_bits(lm, part) for part in data if part)
    assert found.total_bits == pytest.approx(expected, rel=1e-6)
    assert found.num_bytes == sum(map(len, data))
    assert found.num_tokens == sum(len(lm.vocabulary.encode(part)) for part in data)


@settings(derandomize=True, deadline=None, max_examples=30)
@given(context=st.integers(1, 12), data=st.data())
def test_small_windows_equal_their_definition(context, data):
    stride = data.draw(st.integers(1, context))
    ids = LM.vocabulary.encode(TEXT)
    sequence = [0, *ids]
    expected = 0.0
    for _, start, first, stop in make_windows(len(sequence), context, stride):
        with torch.no_grad():
            logits = LM.model(torch.tensor([sequence[start : stop - 1]])).logits[0].double()
        logprobs = logits.log_softmax(-1)
        for place in range(first, stop):
            expected -= float(logprobs[place - 1 - start, sequence[place]]) / math.log(2)
    found = bits_per_byte(LM, TEXT, context=context, stride=stride, batch_size=4)
    assert found.total_bits == pytest.approx(expected, rel=1e-6)
    assert found.num_tokens == len(ids)


def test_stride_of_one_gives_every_token_the_full_context():
    found = bits_per_byte(LM, TEXT, context=5, stride=1)
    assert found.total_bits == pytest.approx(brute_force_bits(LM, TEXT, context=5), rel=1e-6)


def test_documents_are_scored_apart_and_added():
    parts = [TEXT, b"\xff\x00", "", "an", "\ud800"]
    together = bits_per_byte(LM, parts)
    apart = [bits_per_byte(LM, part) for part in parts if part]
    assert together.total_bits == pytest.approx(sum(r.total_bits for r in apart), rel=1e-6)
    assert together.num_bytes == sum(r.num_bytes for r in apart)


def test_add_bos_false_pays_the_first_token_uniformly():
    found = bits_per_byte(LM, "a", add_bos=False)
    assert found.total_bits == math.log2(LM.vocabulary.vocab_size)
    assert found.first_token == "uniform"


def test_bf16_is_near_float32():
    lm = tiny_language_model(seed=3)
    expected = bits_per_byte(lm, TEXT).bits_per_byte
    lm.model.to(torch.bfloat16)
    assert bits_per_byte(lm, TEXT).bits_per_byte == pytest.approx(expected, rel=0.02)


@pytest.mark.parametrize("has_instructions", [True, False])
def test_bf16_is_computed_in_float32_where_that_is_sooner(monkeypatch, has_instructions):
    for module in ("pack", "packed_linear"):
        name = f"jeton.lm.{module}.has_bf16_instructions"
        monkeypatch.setattr(name, lambda: has_instructions)
    lm = tiny_language_model(seed=3)
    head = lm.model.get_output_embeddings()
    seen = []
    lm.model.register_forward_pre_hook(lambda *_: seen.append("forward" in vars(head)))
    bits_per_byte(lm, TEXT)
    assert not any(seen)  # float32 holds no copies
    seen.clear()
    lm.model.to(torch.bfloat16)
    bits_per_byte(lm, TEXT)
    assert set(seen) == {not has_instructions}
    assert "forward" not in vars(head)


def test_bad_arguments_are_refused():
    for options in (
        {"context": 0},
        {"context": 257},
        {"context": 8, "stride": 9},
        {"stride": 0},
        {"batch_size": 0},
    ):
        with pytest.raises(ConfigError):
            bits_per_byte(LM, TEXT, **options)
    for empty in ("", b"", [], [""]):
        with pytest.raises(ConfigError, match="empty"):
            bits_per_byte(LM, empty)
    with pytest.raises(ConfigError, match="neither a BOS"):
        bits_per_byte(tiny_language_model(has_bos=False), TEXT, add_bos=True)


def test_a_text_without_exact_encoding_is_refused():
    import dataclasses

    from tokenizers import Tokenizer, models

    from jeton.core.vocabulary import Vocabulary

    tokenizer = Tokenizer(models.WordLevel({"a": 0, "[UNK]": 1}, unk_token="[UNK]"))
    vocabulary = Vocabulary.from_tokenizer_json(tokenizer.to_str())
    with pytest.raises(EncodingError):
        bits_per_byte(dataclasses.replace(LM, vocabulary=vocabulary), "b")
