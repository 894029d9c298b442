"""Out of memory at prefill names the chunk size that would fit."""

import re

import pytest
import torch
from transformers.models.llama.modeling_llama import LlamaMLP
from typer.testing import CliRunner

from jeton.cli.app import app
from jeton.errors import ConfigError
from jeton.kv import Cache, attach, guard_memory
from jeton.kv.policies.streaming import Streaming
from jeton.lm.runner import Runner
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


def test_a_runner_under_a_policy_names_a_chunk_that_works():
    model = tiny_model("llama")
    ids = list(range(1, 41))
    handle = model.model.layers[1].mlp.register_forward_pre_hook(_fail_beyond(16))
    with attach(model, Streaming(budget=16)) as attached:
        with pytest.raises(ConfigError, match="reading 40 tokens at once") as caught:
            Runner(model, cache=attached.cache()).prefill(ids)
        assert "prefill_chunk=16)" in caught.value.hint
        found = Runner(model, cache=attached.cache(), prefill_chunk=16).prefill(ids)
    handle.remove()
    with attach(model, Streaming(budget=16)) as attached:
        wanted = Runner(model, cache=attached.cache()).prefill(ids)
    assert torch.allclose(found, wanted, atol=1e-5)


def test_embeddings_in_place_of_ids_are_counted():
    model = tiny_model("llama")
    embeds = model.get_input_embeddings()(torch.arange(40)[None])
    model.model.layers[0].mlp.register_forward_pre_hook(_fail_beyond(16))
    with guard_memory(model), pytest.raises(ConfigError, match="reading 40 tokens"):
        model(inputs_embeds=embeds)


def test_the_dense_cache_names_a_chunk_when_its_rows_find_no_memory():
    rows = torch.zeros(1, 1, 1, 64).expand(1, 1, 1 << 42, 64)  # a petabyte, once it is written
    cache = Cache(tiny_model("llama").config)
    with pytest.raises(ConfigError, match=f"reading {1 << 42} tokens") as caught:
        cache.update(rows, rows, 0)
    assert re.search(r"chunks of \d+ tokens", caught.value.hint)


def test_generate_under_a_policy_names_a_chunk_that_works(monkeypatch):
    def planted(module, rows):
        if rows.shape[1] > 32:
            raise torch.OutOfMemoryError("out of memory")
        return native(module, rows)

    native = LlamaMLP.forward
    monkeypatch.setattr(LlamaMLP, "forward", planted)
    words = ["generate", "starter", "-p", "import os\n" * 30, "--max-new-tokens", "4"]
    words += ["--kv", "streaming", "--budget", "80"]
    failed = CliRunner().invoke(app, words)
    assert isinstance(failed.exception, ConfigError)
    chunk = re.search(r"--prefill-chunk (\d+)", failed.exception.hint)
    assert chunk is not None
    assert CliRunner().invoke(app, [*words, *chunk[0].split()]).exit_code == 0


def test_other_errors_pass_as_they_are():
    model = tiny_model("llama")
    with attach(model, Streaming(budget=16)), pytest.raises(RuntimeError, match="wrong"):
        model.model.layers[0].register_forward_pre_hook(_wrong)
        model(torch.arange(4)[None])


def _fail_beyond(most):
    def fail(module, args):
        if args[0].shape[1] > most:
            raise torch.OutOfMemoryError("out of memory")

    return fail


def _wrong(module, args):
    raise RuntimeError("wrong shape")
