"""Out of memory at prefill names the chunk size that would fit."""

import pytest
import torch

from jeton.errors import ConfigError
from jeton.kv import attach
from jeton.kv.policies.streaming import Streaming
from jeton.testing.models import tiny_model


@pytest.mark.parametrize(
    ("planted", "chunk"),
    [
        (MemoryError(), 16),
        (RuntimeError("[enforce fail] can't allocate memory: tried to allocate 9 bytes"), 16),
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 900000000.00 GiB."), 2),
    ],
)
def test_a_planted_error_names_a_chunk_that_works(planted, chunk):
    model = tiny_model("llama")
    ids = torch.arange(1, 41)[None]
    layer = model.model.layers[1].mlp

    def fail(module, args):
        if args[0].shape[1] > chunk:
            raise planted

    with attach(model, Streaming(budget=16)):
        wanted = model.generate(ids, max_new_tokens=4, do_sample=False)
        handle = layer.register_forward_pre_hook(fail)
        with pytest.raises(ConfigError, match="reading 40 tokens at once") as caught:
            model.generate(ids, max_new_tokens=4, do_sample=False)
        assert f"chunks of {chunk} tokens" in caught.value.hint
        options = {"max_new_tokens": 4, "do_sample": False, "prefill_chunk_size": chunk}
        found = model.generate(ids, **options)
        handle.remove()
    assert torch.equal(found, wanted)
    assert "forward" not in model.__dict__


def test_other_errors_pass_as_they_are():
    model = tiny_model("llama")
    with attach(model, Streaming(budget=16)), pytest.raises(RuntimeError, match="wrong"):
        model.model.layers[0].register_forward_pre_hook(_wrong)
        model(torch.arange(4)[None])


def _wrong(module, args):
    raise RuntimeError("wrong shape")
