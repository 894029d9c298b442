"""Loading: complete safetensors of a causal LM pass, everything else is refused by name."""

import json
import shutil
import warnings

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file

from jeton.errors import (
    CheckpointError,
    ConfigError,
    InputError,
    JetonError,
    TokenizerMismatchError,
    UnsupportedModelError,
)
from jeton.lm.load import load_model
from jeton.testing.models import FAMILIES, tiny_model, tiny_tokenizer


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """Folders of tiny models by family and options, made once."""

    def save(family, **overrides):
        folder = tmp_path_factory.mktemp(family)
        model = tiny_model(family, **{"vocab_size": 288, **overrides})
        model.save_pretrained(folder)
        tiny_tokenizer().save(str(folder / "tokenizer.json"))
        return folder

    return save


@pytest.fixture
def llama(saved, tmp_path):
    """A llama folder of the test's own, to be damaged."""
    folder = tmp_path / "model"
    shutil.copytree(saved("llama"), folder)
    return folder


def edit_json(path, **fields):
    document = json.loads(path.read_text())
    path.write_text(json.dumps({**document, **fields}))


def edit_tensors(folder, change):
    path = folder / "model.safetensors"
    tensors = load_file(path)
    change(tensors)
    save_file(tensors, path, metadata={"format": "pt"})


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("tied", [True, False])
def test_every_family_loads_as_it_was_saved(saved, family, tied):
    folder = saved(family, tie_word_embeddings=tied)
    lm = load_model(folder)
    model = tiny_model(family, vocab_size=288, tie_word_embeddings=tied)
    assert not lm.model.training
    assert lm.path == folder
    assert lm.num_embeddings == 288
    assert lm.max_length == 256
    assert lm.dtype == torch.float32
    assert lm.device.type == "cpu"
    assert lm.num_parameters == sum(p.numel() for p in model.parameters())
    assert lm.size_bytes == 4 * lm.num_parameters
    expected = model.state_dict()
    found = lm.model.state_dict()
    assert all(torch.equal(found[name], expected[name]) for name in expected)


def test_dtype_is_that_of_the_file_or_of_the_argument(saved):
    folder = saved("llama")
    assert load_model(str(folder), dtype="bfloat16").dtype == torch.bfloat16
    load_model(folder, dtype="bfloat16").model.save_pretrained(folder)
    assert load_model(folder).dtype == torch.bfloat16
    assert load_model(folder, dtype="float32").dtype == torch.float32


def test_loading_is_silent_and_leaves_the_settings(saved, capfd):
    before = transformers.logging.get_verbosity()
    folder = saved("llama")
    capfd.readouterr()
    load_model(folder)
    assert transformers.logging.get_verbosity() == before
    assert transformers.logging.is_progress_bar_enabled()
    assert capfd.readouterr() == ("", "")


def refused(error, source, match=None, **options) -> None:
    with warnings.catch_warnings(), pytest.raises(error, match=match) as caught:
        load_model(source, **options)
    assert isinstance(caught.value, JetonError)
    assert caught.value.hint


def test_missing_tensors_are_named(llama):
    edit_tensors(llama, lambda tensors: tensors.pop("model.norm.weight"))
    refused(CheckpointError, llama, "1 missing tensors: model.norm.weight")


def test_surplus_tensors_are_named(llama):
    edit_tensors(llama, lambda tensors: tensors.update(extra=torch.zeros(2)))
    refused(CheckpointError, llama, "1 unexpected tensors: extra")


def test_tensors_of_another_shape_are_refused(llama):
    edit_tensors(llama, lambda t: t.update({"model.norm.weight": torch.zeros(31)}))
    refused(CheckpointError, llama)


@pytest.mark.parametrize("size", [0, 5, 100, 5000])
def test_truncated_weights_are_refused(llama, size):
    path = llama / "model.safetensors"
    path.write_bytes(path.read_bytes()[:size])
    refused(CheckpointError, llama, "cannot be read")


def test_corrupt_header_is_refused(llama):
    path = llama / "model.safetensors"
    data = bytearray(path.read_bytes())
    data[8:40] = b"\xff" * 32
    path.write_bytes(bytes(data))
    refused(CheckpointError, llama, "cannot be read")


def test_missing_shard_is_refused(llama):
    names = dict.fromkeys(
        load_file(llama / "model.safetensors"), "model-00001-of-00001.safetensors"
    )
    (llama / "model.safetensors").unlink()
    index = {"metadata": {"total_size": 1}, "weight_map": names}
    (llama / "model.safetensors.index.json").write_text(json.dumps(index))
    refused(CheckpointError, llama, "cannot be read")


def test_pickle_is_refused(llama):
    (llama / "model.safetensors").rename(llama / "pytorch_model.bin")
    refused(CheckpointError, llama, "only as pickle")


def test_no_weights_at_all(llama):
    (llama / "model.safetensors").unlink()
    refused(CheckpointError, llama, "holds no model.safetensors")


@pytest.mark.parametrize(
    "fields",
    [
        {"model_type": "t5", "architectures": ["T5ForConditionalGeneration"]},
        {"model_type": "bert", "architectures": ["BertForMaskedLM"]},
        {"model_type": "llama", "architectures": ["LlamaForSequenceClassification"]},
        {"model_type": "no-such-type"},
        {"model_type": None},
        {"model_type": ["llama"]},
        {"model_type": "custom", "auto_map": {"AutoModelForCausalLM": "code.Model"}},
    ],
)
def test_what_is_no_causal_model_is_refused(llama, fields):
    edit_json(llama / "config.json", **fields)
    refused(UnsupportedModelError, llama)


@pytest.mark.parametrize("text", ["", "{", "[]", '"llama"', "\x00"])
def test_broken_config_is_refused(llama, text):
    (llama / "config.json").write_text(text)
    refused(CheckpointError, llama, "config.json")


@pytest.mark.parametrize(
    "fields",
    [
        {"hidden_size": "many"},
        {"num_attention_heads": 0},
        {"num_hidden_layers": 3},
        {"hidden_size": 48},
    ],
)
def test_config_that_lies_is_refused(llama, fields):
    edit_json(llama / "config.json", **fields)
    refused(CheckpointError, llama)


def test_tokenizer_with_more_ids_than_embeddings(saved):
    refused(TokenizerMismatchError, saved("llama", vocab_size=200), "200 embeddings")


def test_missing_paths(tmp_path):
    refused(InputError, tmp_path / "nothing", "no folder")
    refused(InputError, str(tmp_path / "nothing"), "no folder")
    refused(InputError, "./nothing", "no folder")
    refused(InputError, tmp_path, "config.json")
    (tmp_path / "file").write_text("")
    refused(InputError, tmp_path / "file", "is no folder")
    refused(InputError, "no-such-name-anywhere", "neither a folder")


def test_unknown_options(llama):
    refused(ConfigError, llama, "dtype", dtype="int3")
    refused(ConfigError, llama, "device", device="abacus")
    if not torch.cuda.is_available():
        refused(ConfigError, llama, "CUDA", device="cuda")


def test_stories_model_generates_what_is_expected(shared_data):
    from jeton.lm.runner import Runner
    from jeton.lm.tree import TokenTree

    folder = shared_data / "models" / "stories260k"
    expected = json.loads((folder / "expected_greedy.json").read_text())
    lm = load_model(folder)
    runner = Runner(lm.model)
    logits = runner.prefill(expected["prompt_ids"])
    while runner.length < len(expected["greedy_ids_200"]):
        logits = runner.verify(TokenTree.chain([int(logits.argmax())])).logits[0]
        runner.commit([0])
    assert runner.token_ids == expected["greedy_ids_200"]
