"""Laws of byte-level probabilities over real models: one forward, one byte at a time, all alike."""

import math

import numpy as np
import pytest
import torch

from jeton.bytelm.byte_lm import ByteLM
from jeton.bytelm.contract import END
from jeton.bytelm.prompt import Special
from jeton.bytelm.score import score
from jeton.errors import ConfigError
from jeton.lm.load import LanguageModel
from jeton.testing.models import tiny_language_model

TEXTS = (
    b"def f(x):\n\n\n    return 'it''s 12345'  # d\xc3\xa9j\xc3\xa0 vu \xe4\xbd\xa0\xe5\xa5\xbd",
    b"\xff\xc3 stray \xe4\xbd and \xf0\x9f\xa6\x99 whole",
)
FAMILIES = ("llama", "gemma2", "mamba")


@pytest.fixture(scope="module")
def llama() -> LanguageModel:
    return tiny_language_model("llama")


def masked_likelihood(byte_lm: ByteLM, data: bytes) -> float:
    """Log likelihood of the canonical tokens and the end, next tokens masked and renormalised."""
    rule, lm = byte_lm.rule, byte_lm.token_lm
    vocabulary = byte_lm.vocabulary
    ids = [*byte_lm.start_ids, *vocabulary.encode(data)]
    with torch.inference_mode():
        logits = lm.runner.model(input_ids=torch.tensor([ids])).logits[0].double().numpy()
    state, total = rule.start(), 0.0
    size = vocabulary.vocab_size
    for place, row in enumerate(logits[len(byte_lm.start_ids) - 1 :, :size]):
        bits, may_end = rule.mask(state)
        mask = np.unpackbits(bits, count=size).astype(bool)
        mask[byte_lm.settings.lexicon.eos_ids] = may_end
        asked = [*vocabulary.encode(data), int(byte_lm.settings.lexicon.eos_ids[0])][place]
        assert mask[asked], "the canonical token is masked"
        total += row[asked] - np.logaddexp.reduce(row[mask])
        state = rule.step(state, asked)
    return float(total)


@pytest.mark.parametrize("data", TEXTS)
def test_whole_text_is_the_masked_token_likelihood(llama: LanguageModel, data: bytes) -> None:
    end = next(iter(llama.vocabulary.special_tokens.values()))
    byte_lm = ByteLM(llama, end_ids=[end])
    assert math.isclose(
        score(byte_lm, data).string_logprob, masked_likelihood(byte_lm, data), abs_tol=1e-4
    )


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("measure", ["canonical", "fast"])
def test_one_forward_equals_byte_after_byte(family: str, measure: str) -> None:
    byte_lm = ByteLM(tiny_language_model(family), measure=measure, end_ids=[0])
    data = TEXTS[0][:40]
    result = score(byte_lm, data)
    state = byte_lm.state()
    for place, byte in enumerate(data):
        logprobs = state.next_logprobs()
        assert math.isclose(float(np.logaddexp.reduce(logprobs)), 0.0, abs_tol=1e-9)
        assert math.isclose(logprobs[byte], result.logprobs[place], abs_tol=2e-4)
        state = state.advance(byte)
    assert math.isclose(state.next_logprobs()[END], result.end_logprob, abs_tol=2e-4)
    assert math.isclose(state.leak, result.leak, abs_tol=1e-3)
    assert (result.leak < 0.0) == (measure == "fast")


@pytest.mark.parametrize("measure", ["canonical", "fast", "all"])
def test_a_prompt_may_end_anywhere(llama: LanguageModel, measure: str) -> None:
    byte_lm, data = ByteLM(llama, measure=measure), TEXTS[0]
    walked = byte_lm.state()
    for cut in range(1, 24):
        walked = walked.advance(data[cut - 1])
        found = byte_lm.state(data[:cut]).next_logprobs()
        assert np.allclose(np.exp(found), np.exp(walked.next_logprobs()), atol=2e-4), cut


def test_known_bytes_are_read_in_one_forward(llama: LanguageModel) -> None:
    byte_lm, data = ByteLM(llama), TEXTS[0][:30]
    state = byte_lm.state(data[:10])
    slow, asked = [], state
    for byte in data[10:]:
        asked = asked.advance(byte)
        slow.append(asked.next_logprobs())
    fresh = ByteLM(llama)
    fast = [s.next_logprobs() for s in fresh.state(data[:10]).follow(data[10:])]
    assert np.allclose(np.exp(slow), np.exp(fast), atol=1e-4)


def test_context_and_windows(llama: LanguageModel) -> None:
    byte_lm, data = ByteLM(llama), TEXTS[0]
    whole = score(byte_lm, data)
    for cut in (3, 17):
        part = score(byte_lm, data[cut:], data[:cut])
        assert np.allclose(part.logprobs, whole.logprobs[cut:], atol=1e-4)
    long = score(ByteLM(tiny_language_model(max_position_embeddings=32)), data * 3)
    assert np.isfinite(long.logprobs).all() and len(long.logprobs) == 3 * len(data)


def test_special_tokens_are_boundaries_and_strangers_are_refused(llama: LanguageModel) -> None:
    byte_lm = ByteLM(llama)
    name = next(iter(llama.vocabulary.special_tokens))
    ids, text = byte_lm.read_context(["ab", Special(name), "cd"])
    assert text == b"cd"
    assert byte_lm.token_lm.paths.tokens[ids] == llama.vocabulary.special_tokens[name]
    with pytest.raises(ConfigError, match="no special token"):
        byte_lm.state([Special("<nope>"), "a"])
    with pytest.raises(ConfigError, match="measure"):
        ByteLM(llama, measure="some")


def test_generates_bytes_reproducibly(llama: LanguageModel) -> None:
    byte_lm = ByteLM(llama)
    first = byte_lm.generate(b"de", max_bytes=12, seed=3)
    assert first == byte_lm.generate(b"de", max_bytes=12, seed=3)
    assert len(first) <= 12
