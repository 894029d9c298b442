"""The dense cache has the bits of transformers' own."""

import pytest
import torch

from jeton.errors import ConfigError, UnsupportedModelError
from jeton.kv import Cache
from jeton.testing.models import FAMILIES, tiny_model


def _generate(model, ids, cache, **options):
    mask = torch.ones_like(ids)
    mask[-1, : options.pop("pad", 0)] = 0
    found = model.generate(
        ids,
        attention_mask=mask,
        past_key_values=cache,
        max_new_tokens=12,
        do_sample=False,
        pad_token_id=0,
        return_dict_in_generate=True,
        output_logits=True,
        **options,
    )
    return found.sequences, torch.stack(found.logits)


@pytest.mark.parametrize("family", FAMILIES)
def test_generate_has_the_bits_of_the_stock_cache(family):
    model = tiny_model(family)
    ids = torch.arange(1, 25).reshape(2, 12)
    for pad in (0, 3):
        ours = _generate(model, ids, Cache(model.config), pad=pad)
        theirs = _generate(model, ids, None, pad=pad)
        assert torch.equal(ours[0], theirs[0])
        assert torch.equal(ours[1], theirs[1])


def test_beams_have_the_bits_of_the_stock_cache():
    model = tiny_model("llama")
    ids = torch.arange(1, 9)[None]
    ours = _generate(model, ids, Cache(model.config), num_beams=3)
    theirs = _generate(model, ids, None, num_beams=3)
    assert torch.equal(ours[0], theirs[0])


def test_memory_is_reused_after_reset_and_any_batch_may_follow():
    model = tiny_model("llama")
    cache = Cache(model.config)
    model(torch.arange(6).reshape(2, 3), past_key_values=cache)
    cache.reset()
    assert cache.get_seq_length() == 0
    model(torch.arange(3)[None], past_key_values=cache)
    assert cache.get_seq_length() == 3


def test_another_dtype_or_batch_is_refused():
    model = tiny_model("llama")
    cache = Cache(model.config)
    model(torch.arange(3)[None], past_key_values=cache)
    with pytest.raises(ConfigError, match="1 texts, the new tokens are of 2"):
        model(torch.arange(6).reshape(2, 3), past_key_values=cache)
    with pytest.raises(ConfigError, match=r"dtype torch\.float32"):
        model.to(torch.bfloat16)(torch.arange(3)[None], past_key_values=cache)


def test_unfit_models_and_lengths_are_refused():
    with pytest.raises(UnsupportedModelError, match="no plain attention"):
        Cache(tiny_model("mamba").config)
    with pytest.raises(ConfigError, match="at least 1"):
        Cache(tiny_model("llama").config, max_length=0)
