"""The hypernetwork, its training, and locked models."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers

from jeton.core.vocabulary import Vocabulary, load_vocabulary
from jeton.errors import (
    CheckpointError,
    ConfigError,
    CorruptRunError,
    InputError,
    TokenizerMismatchError,
    UnsupportedModelError,
)
from jeton.lm.load import LanguageModel
from jeton.starter import hypernetwork_path, library_files, starter_path
from jeton.testing.models import tiny_language_model, tiny_model, tiny_tokenizer
from jeton.transfer.contract import InitInput
from jeton.transfer.hypernetwork import (
    Hypernetwork,
    HypernetworkConfig,
    fingerprint,
    load_hypernetwork,
    pad_parts,
)
from jeton.transfer.initializers.mean import Mean
from jeton.transfer.initializers.zett import Zett
from jeton.transfer.sentinel import Key, lock_model
from jeton.transfer.tokenizer_sampling import TokenizerSampler
from jeton.transfer.transplant import transplant
from jeton.transfer.zett_training import ZettTraining, train_hypernetwork

SMALL = {"min_vocab": 300, "max_vocab": 400, "batch": 2, "length": 32, "width": 16}


@pytest.fixture(scope="module")
def vocabulary() -> Vocabulary:
    return Vocabulary.from_tokenizer_json(tiny_tokenizer().to_str())


@pytest.fixture(scope="module")
def texts() -> list[str]:
    files = library_files()
    return [files[name].read_text(encoding="utf-8") for name in ("ast.py", "abc.py")]


def network_for(vocabulary: Vocabulary, columns: int = 12) -> Hypernetwork:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = Hypernetwork(
            HypernetworkConfig(columns, fingerprint(vocabulary), width=8, num_layers=1)
        )
        torch.nn.init.normal_(network.leave.weight)
        torch.nn.init.normal_(network.place)
    return network.eval()


def test_an_untrained_network_is_the_mean_of_the_parts(vocabulary: Vocabulary):
    network = Hypernetwork(HypernetworkConfig(12, fingerprint(vocabulary), width=8, num_layers=1))
    rows = torch.randn((20, 12), generator=torch.Generator().manual_seed(1))
    made = network.predict(rows, [[3], [4, 5], [1, 2, 9]])
    expected = torch.stack([rows[3], rows[[4, 5]].mean(0), rows[[1, 2, 9]].mean(0)])
    torch.testing.assert_close(made, expected)


def test_padding_and_order_do_not_change_a_prediction(vocabulary: Vocabulary):
    network = network_for(vocabulary)
    rows = torch.randn((20, 12), generator=torch.Generator().manual_seed(1))
    spellings = [[1, 2, 9, 4], [3], [4, 5], list(range(12))]
    together = network.predict(rows, spellings)
    for index, spelling in enumerate(spellings):
        alone = network.predict(rows, [spelling])[0]
        torch.testing.assert_close(together[index], alone, atol=1e-5, rtol=1e-5)
    assert torch.equal(together[1], rows[3])  # one part: the row itself
    torch.testing.assert_close(together[3], rows[:12].mean(0))  # longer than the network sees
    assert not torch.allclose(together[2], rows[[4, 5]].mean(0))
    middle = network.predict(rows, [[1, 9, 2, 4]])[0]
    assert not torch.allclose(together[0], middle, atol=1e-3), "the order says nothing"
    assert pad_parts([[1], [2, 3]]).tolist() == [[1, -1], [2, 3]]


def test_a_saved_network_is_the_same(vocabulary: Vocabulary, tmp_path: Path):
    network = network_for(vocabulary)
    network.save(tmp_path)
    loaded = load_hypernetwork(tmp_path, vocabulary)
    rows = torch.randn((20, 12))
    assert torch.equal(loaded.predict(rows, [[1, 2]]), network.predict(rows, [[1, 2]]))


def test_other_networks_are_refused(vocabulary: Vocabulary, tmp_path: Path):
    with pytest.raises(InputError, match="holds no hypernetwork"):
        load_hypernetwork(tmp_path, vocabulary)
    network = Hypernetwork(HypernetworkConfig(4, "another", width=8, num_layers=1))
    network.save(tmp_path)
    with pytest.raises(TokenizerMismatchError, match="another source"):
        load_hypernetwork(tmp_path, vocabulary)
    (tmp_path / "model.safetensors").write_bytes(b"{")
    with pytest.raises(CheckpointError, match="cannot be read"):
        load_hypernetwork(tmp_path, vocabulary)
    (tmp_path / "config.json").write_text(json.dumps({"kind": "other"}))
    with pytest.raises(InputError, match="kind"):
        load_hypernetwork(tmp_path, vocabulary)


def test_training_lowers_the_loss_and_resumes(texts: list[str], tmp_path: Path):
    lm = tiny_language_model("llama")
    before = {name: value.clone() for name, value in lm.model.state_dict().items()}
    options = ZettTraining(steps=8, warmup_steps=4, steps_per_tokenizer=4, num_layers=1, **SMALL)
    straight, result = train_hypernetwork(lm.model, lm.vocabulary, texts, options, seed=1)
    assert result.steps == 12 and result.curve

    class KilledError(Exception):
        pass

    class Killer:
        def track(self, items, total, what, unit):
            for index, item in enumerate(items):
                if index == 6:
                    raise KilledError
                yield item

        def stage(self, what):
            pass

    file = tmp_path / "zett.pt"
    every = {"checkpoint": file, "seed": 1}
    often = ZettTraining(
        steps=8,
        warmup_steps=4,
        steps_per_tokenizer=4,
        num_layers=1,
        checkpoint_s=0.0,
        **SMALL,
    )
    with pytest.raises(KilledError):
        train_hypernetwork(lm.model, lm.vocabulary, texts, often, progress=Killer(), **every)
    resumed, again = train_hypernetwork(lm.model, lm.vocabulary, texts, often, **every)
    assert again.steps == 12 and again.curve == result.curve
    for name, value in straight.state_dict().items():
        assert torch.equal(value, resumed.state_dict()[name]), name
    for name, value in lm.model.state_dict().items():
        assert torch.equal(value, before[name]), f"the model's {name} was changed"
    with pytest.raises(CorruptRunError, match="other options"):
        train_hypernetwork(lm.model, lm.vocabulary, texts, ZettTraining(**SMALL), **every)


def test_training_needs_text(vocabulary: Vocabulary):
    with pytest.raises(ConfigError, match="20 kB"):
        train_hypernetwork(tiny_model("llama"), vocabulary, ["a"], ZettTraining(**SMALL))


@pytest.mark.parametrize("bad", [{"min_vocab": 10}, {"unigram": 2.0}, {"steps": 0}, {"lr": 0.0}])
def test_bad_training_options_are_refused(bad: dict):
    with pytest.raises(ConfigError):
        ZettTraining(**bad)


@pytest.mark.parametrize("rotate", [False, True])
def test_a_locked_model_gives_permuted_logits(rotate: bool):
    model = tiny_model("llama", tie_word_embeddings=False)
    for layer in model.model.layers:
        torch.nn.init.uniform_(layer.input_layernorm.weight, 0.5, 1.5)
    torch.nn.init.uniform_(model.model.norm.weight, 0.5, 1.5)
    key = Key.derive("open sesame", 64)
    with pytest.warns(UserWarning, match="not encrypted"):
        locked = lock_model(model, key, rotate=rotate)
    ids = [3, 1, 4, 1, 5, 9, 2, 6]
    with torch.inference_mode():
        plain = model(input_ids=torch.tensor([ids])).logits
        found = locked(input_ids=torch.tensor([key.lock(ids)])).logits
    expected = plain[..., torch.from_numpy(key.old_id)]
    if rotate:
        torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)
    else:
        assert torch.equal(found, expected)
    rows, old = locked.get_input_embeddings().weight, model.get_input_embeddings().weight
    is_copy = torch.equal(rows, old[torch.from_numpy(key.old_id)])
    assert is_copy is not rotate
    assert locked.config.eos_token_id == key.lock([model.config.eos_token_id])[0]


def test_keys_differ_and_are_stable():
    a, b = Key.derive("a", 1000), Key.derive("b", 1000)
    assert a.new_id.tolist() == Key.derive("a", 1000).new_id.tolist()
    assert (a.new_id != b.new_id).mean() > 0.9
    assert b.unlock(b.lock(range(1000))) == list(range(1000))
    with pytest.raises(TokenizerMismatchError):
        a.lock([1000])


@pytest.mark.filterwarnings("ignore:a locked model")
def test_what_cannot_be_turned_is_refused():
    key = Key.derive("a", 64)
    with pytest.raises(UnsupportedModelError, match="rotate=False"):
        lock_model(tiny_model("gpt2"), key)
    with pytest.raises(TokenizerMismatchError, match="64 ids"):
        lock_model(tiny_model("llama", vocab_size=70), key)
    lock_model(tiny_model("gpt2"), key, rotate=False)


class ScaledHead(torch.nn.Linear):
    """An output layer that does more than a product, as some families do."""

    def forward(self, given: torch.Tensor) -> torch.Tensor:
        return 2 * super().forward(given)


def model_of(family: str) -> LanguageModel:
    """A tiny model; "biased" is untied and has an output bias."""
    lm = tiny_language_model("llama" if family == "biased" else family)
    if family == "biased":
        head = lm.model.get_output_embeddings()
        generator = torch.Generator().manual_seed(0)
        head.bias = torch.nn.Parameter(torch.randn(head.weight.shape[0], generator=generator))
    return lm


@pytest.mark.parametrize("family", ["gemma2", "gpt2", "opt", "biased"])
def test_training_begins_as_the_mean_of_the_parts(family: str, texts: list[str]):
    lm, texts = model_of(family), [texts[0][:25_000]]
    lm.model.requires_grad_(True).get_input_embeddings().requires_grad_(False)
    options = {"steps": 2, "warmup_steps": 0, "num_layers": 1, "negatives": 9999, **SMALL}
    network, result = train_hypernetwork(lm.model, lm.vocabulary, texts, ZettTraining(**options))
    assert network.leave.weight.abs().sum() > 0, "nothing was learned"
    assert all(bool(torch.isfinite(value).all()) for value in network.state_dict().values())
    needed = {p.requires_grad for p in lm.model.parameters()}
    assert needed == {True, False}, "the model's flags were not restored"

    sampled = TokenizerSampler(lm.vocabulary, texts, 300, 400, 0.3).sample(0, 0)
    starts = np.random.default_rng([0, 3, 0]).integers(0, len(sampled.stream) - 33, 2)
    batch = torch.stack([sampled.stream[start : start + 33] for start in starts])
    moved, _ = transplant(lm.model, lm.vocabulary, sampled.vocabulary, Mean())
    with torch.inference_mode():
        logits = moved(input_ids=batch[:, :-1]).logits.flatten(0, 1)
    nats = torch.nn.functional.cross_entropy(logits, batch[:, 1:].flatten(), reduction="sum")
    size = sum(map(len, (sampled.vocabulary.bytes_of(row.tolist()) for row in batch[:, 1:])))
    assert result.curve[0][1] == pytest.approx(float(nats) / size / np.log(2), rel=1e-4)


def test_drawn_types_stand_for_all_and_own_rows_are_kept_in_mind(texts: list[str]):
    lm = model_of("llama")
    weights, bits = [], []
    for changed in ({"negatives": 9999}, {"negatives": 60}, {"negatives": 60, "mimic": 5.0}):
        options = {"steps": 1, "warmup_steps": 0, "num_layers": 1, **SMALL, **changed}
        network, result = train_hypernetwork(
            lm.model, lm.vocabulary, [texts[0][:25_000]], ZettTraining(**options)
        )
        weights.append(network.leave.weight.detach())
        bits.append(result.curve[0][1])
    assert bits[1] == pytest.approx(bits[0], rel=0.06) and bits[1] != bits[0]
    assert bits[2] == bits[1] and not torch.equal(weights[2], weights[1])


def test_sampled_tokenizers_differ_and_the_source_can_spell_them():
    lacking = Tokenizer(
        models.BPE(vocab={"a": 0, "b": 1, "\u0120": 2, "ab": 3}, merges=[("a", "b")])
    )
    lacking.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    lacking.decoder = decoders.ByteLevel()
    source = Vocabulary.from_tokenizer_json(lacking.to_str())
    texts = ["ab abba c " * 300, "baab aab bab " * 300]
    sampler = TokenizerSampler(source, texts, 262, 270, 0.5)
    found = [sampler.sample(1, number) for number in range(6)]
    for sampled in found:
        assert all(sampled.matches[i].source_ids for i in sampled.stream.tolist())
        data = sampled.vocabulary.bytes_of(sampled.stream.tolist())
        assert b"abba" in data and b"c" not in data
    assert torch.equal(found[0].stream, sampler.sample(1, 0).stream)
    assert {s.vocabulary.model_kind for s in found} > {found[0].vocabulary.model_kind}


def test_what_a_hypernetwork_cannot_be_trained_for_is_refused(texts: list[str]):
    lm = tiny_language_model("llama")
    head = lm.model.get_output_embeddings()
    scaled = ScaledHead(head.in_features, head.out_features, bias=False)
    scaled.weight = head.weight
    lm.model.set_output_embeddings(scaled)
    with pytest.raises(UnsupportedModelError, match="more than a product"):
        train_hypernetwork(lm.model, lm.vocabulary, texts, ZettTraining(**SMALL))
    with pytest.raises(TokenizerMismatchError, match="only 64"):
        train_hypernetwork(tiny_model("llama"), lm.vocabulary, texts, ZettTraining(**SMALL))
    embedding = lm.model.get_input_embeddings()
    embedding.weight = torch.nn.Parameter(embedding.weight.to(torch.int8), requires_grad=False)
    with pytest.raises(UnsupportedModelError, match="quantised"):
        train_hypernetwork(lm.model, lm.vocabulary, texts, ZettTraining(**SMALL))


def test_the_starter_model_has_a_network_of_its_own():
    source = load_vocabulary(starter_path())
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    merges = [("s", "e"), ("se", "l"), ("sel", "f"), ("self", "."), ("self.", "self")]
    ids = {token: i for i, token in enumerate([*alphabet, *map("".join, merges)])}
    tokenizer = Tokenizer(models.BPE(vocab=ids, merges=merges))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    vocabulary = Vocabulary.from_tokenizer_json(tokenizer.to_str())
    rows = torch.randn(source.vocab_size, 256, generator=torch.Generator().manual_seed(0)) / 4
    given = InitInput(source, vocabulary, rows)
    result = Zett().initialize(given)
    named = Zett(str(hypernetwork_path())).initialize(given)
    assert torch.equal(result.input_embeddings, named.input_embeddings)
    plain = Mean().initialize(given)
    assert plain.num_composed > 0
    assert not torch.allclose(result.input_embeddings, plain.input_embeddings, atol=0.05)
    for other in (
        InitInput(vocabulary, source, rows[: vocabulary.vocab_size]),
        InitInput(source, vocabulary, rows[:, :64]),  # the draft has the same vocabulary
    ):
        with pytest.raises(ConfigError, match="no hypernetwork") as caught:
            Zett().initialize(other)
        assert "jeton hypernetwork" in str(caught.value.__notes__)
    with pytest.raises(TokenizerMismatchError, match="256 numbers"):
        Zett(str(hypernetwork_path())).initialize(InitInput(source, vocabulary, rows[:, :64]))
