"""Every initializer and healer keeps the laws of `jeton.transfer.contract`."""

import json
from pathlib import Path

import pytest
import torch
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers

from jeton.core.vocabulary import Vocabulary
from jeton.errors import ConfigError, CorruptRunError, TokenizerMismatchError, UnsupportedModelError
from jeton.testing.models import FAMILIES, tiny_model
from jeton.testing.transfer import check_healer_resumes, check_initializer
from jeton.transfer.contract import HealInput, InitInput
from jeton.transfer.hypernetwork import Hypernetwork, HypernetworkConfig, fingerprint
from jeton.transfer.initializers.mean import Mean
from jeton.transfer.matching import match_tokens
from jeton.transfer.registry import HEALERS, INITIALIZERS
from jeton.transfer.transplant import transplant

TEXT = "the cat sat on the mat and the other cat ran after the hat\n" * 30
CODE = "def add(first, second):\n    return first + second\n\n\nclass Adder:\n    pass\n" * 30


def make_vocabulary(text: str, size: int) -> Vocabulary:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=size,
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        special_tokens=[AddedToken("<s>", special=True), AddedToken("<pad>", special=True)],
        show_progress=False,
    )
    tokenizer.train_from_iterator([text], trainer)
    return Vocabulary.from_tokenizer_json(tokenizer.to_str())


@pytest.fixture(scope="module")
def source() -> Vocabulary:
    return make_vocabulary(TEXT, 290)


@pytest.fixture(scope="module")
def destination() -> Vocabulary:
    return make_vocabulary(CODE, 310)


def options_for(name: str, source: Vocabulary, folder: Path) -> dict:
    """Options of initializers that cannot do without."""
    if name == "context_distillation":
        return {"start": "mean", "steps": 3, "length": 16, "batch": 2, "hidden_weight": 0.5}
    if name == "zett":
        for columns in (16, 32):
            config = HypernetworkConfig(columns, fingerprint(source), width=8, num_layers=1)
            network = Hypernetwork(config)
            torch.nn.init.normal_(network.leave.weight, generator=torch.Generator().manual_seed(1))
            network.save(folder / str(columns))
        return {"hypernetwork": str(folder)}
    return {}


class EitherZett:
    """Takes the network that fits a tied or an untied model."""

    copies_shared = True

    def __init__(self, hypernetwork: str) -> None:
        self.folder = Path(hypernetwork)

    def initialize(self, inputs: InitInput):
        is_tied = inputs.output_embeddings is None
        columns = inputs.input_embeddings.shape[1] * (1 if is_tied else 2)
        folder = str(self.folder / str(columns))
        return INITIALIZERS.create("zett", {"hypernetwork": folder}).initialize(inputs)


@pytest.mark.parametrize("name", INITIALIZERS.names())
def test_initializer_keeps_the_laws(
    name: str, source: Vocabulary, destination: Vocabulary, tmp_path: Path
):
    options = options_for(name, source, tmp_path)
    method = EitherZett(**options) if name == "zett" else INITIALIZERS.create(name, options)
    check_initializer(method, source, destination)


def test_the_check_sees_an_initializer_that_copies_nothing(source, destination):
    class Shifted(Mean):
        def initialize(self, inputs: InitInput):
            result = Mean.initialize(self, inputs)
            result.input_embeddings[5] += 1
            return result

    with pytest.raises(AssertionError):
        check_initializer(Shifted(), source, destination)


def test_mean_equals_the_worked_example():
    golden = json.loads(
        (Path(__file__).parents[1] / "golden/transfer/mean.json").read_text(encoding="utf-8")
    )

    def vocabulary(tokens: list[str], merges: list[tuple[str, str]]) -> Vocabulary:
        model = models.BPE(vocab={t: i for i, t in enumerate(tokens)}, merges=merges)
        tokenizer = Tokenizer(model)
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        tokenizer.decoder = decoders.ByteLevel()
        return Vocabulary.from_tokenizer_json(tokenizer.to_str())

    old = list(golden["rows"])
    source = vocabulary(old, [])
    merges = [("a", "b"), ("ab", "c"), ("a", "ab")]
    destination = vocabulary([*old, "ab", "abc", "aab"], merges)
    rows = torch.tensor(list(golden["rows"].values()), dtype=torch.float64)
    result = Mean().initialize(InitInput(source, destination, rows))
    expected = torch.tensor(
        [*golden["rows"].values(), *golden["new"].values()], dtype=torch.float64
    )
    # The mean is taken in float32.
    torch.testing.assert_close(result.input_embeddings, expected, atol=1e-6, rtol=0)
    assert (result.num_copied, result.num_composed, result.num_fallback) == (3, 3, 0)


@pytest.mark.parametrize("family", FAMILIES)
def test_identity_transplant_is_bit_identical(family: str, source: Vocabulary):
    model = tiny_model(family, vocab_size=source.vocab_size + 6)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    moved, result = transplant(model, source, source, Mean())
    ids = torch.arange(0, 24)[None]
    with torch.no_grad():
        expected = model(input_ids=ids).logits[..., : source.vocab_size]
        assert torch.equal(moved(input_ids=ids).logits, expected)
    assert result.num_copied == source.vocab_size
    assert moved.config.get_text_config().vocab_size == source.vocab_size
    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name]), f"the source's {name} was touched"
    is_tied = model.get_input_embeddings().weight is model.get_output_embeddings().weight
    still_tied = moved.get_input_embeddings().weight is moved.get_output_embeddings().weight
    assert is_tied == still_tied


@pytest.mark.parametrize("family", FAMILIES)
def test_moved_model_saves_and_loads(
    family: str, source: Vocabulary, destination: Vocabulary, tmp_path: Path
):
    from transformers import AutoModelForCausalLM

    moved, _ = transplant(
        tiny_model(family, vocab_size=source.vocab_size), source, destination, Mean()
    )
    moved.save_pretrained(tmp_path)
    loaded = AutoModelForCausalLM.from_pretrained(tmp_path).eval()
    ids = torch.arange(destination.vocab_size - 20, destination.vocab_size)[None]
    with torch.no_grad():
        assert torch.equal(loaded(input_ids=ids).logits, moved(input_ids=ids).logits)
        assert loaded(input_ids=ids).logits.shape[-1] == destination.vocab_size


ENCODERS = ("bert", "roberta", "distilbert", "modernbert")


def tiny_encoder(family: str, vocab_size: int):
    """A random masked language model."""
    from transformers import AutoConfig, AutoModelForMaskedLM

    sizes = {
        "vocab_size": vocab_size, "hidden_size": 32, "intermediate_size": 48,
        "num_hidden_layers": 2, "num_attention_heads": 4, "max_position_embeddings": 64,
        "dim": 32, "hidden_dim": 48, "n_layers": 2, "n_heads": 4,
    }  # fmt: skip
    names = {"pad_token_id": 0, "bos_token_id": 0, "eos_token_id": 0}
    names |= {"cls_token_id": 0, "sep_token_id": 0}
    known = AutoConfig.for_model(family).to_dict()
    config = AutoConfig.for_model(
        family, **{k: v for k, v in {**sizes, **names}.items() if k in known}
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return AutoModelForMaskedLM.from_config(config).eval()


@pytest.mark.parametrize("family", ENCODERS)
def test_encoders_move_too(
    family: str, source: Vocabulary, destination: Vocabulary, tmp_path: Path
):
    from transformers import AutoModelForMaskedLM

    model = tiny_encoder(family, source.vocab_size + 6)
    ids = torch.arange(0, 24)[None]
    same, _ = transplant(model, source, source, Mean())
    with torch.no_grad():
        expected = model(input_ids=ids).logits[..., : source.vocab_size]
        assert torch.equal(same(input_ids=ids).logits, expected)
    moved, result = transplant(model, source, destination, Mean())
    assert (result.output_bias is None) == (model.get_output_embeddings().bias is None)
    is_tied = moved.get_input_embeddings().weight is moved.get_output_embeddings().weight
    assert is_tied == (model.get_input_embeddings().weight is model.get_output_embeddings().weight)
    moved.save_pretrained(tmp_path)
    loaded = AutoModelForMaskedLM.from_pretrained(tmp_path).eval()
    with torch.no_grad():
        found = loaded(input_ids=ids).logits
        assert torch.equal(found, moved(input_ids=ids).logits)
        assert found.shape[-1] == destination.vocab_size


@pytest.mark.parametrize("name", INITIALIZERS.names())
@pytest.mark.parametrize("family", ["bert", "modernbert"])
def test_every_initializer_moves_encoders(
    family: str, name: str, source: Vocabulary, destination: Vocabulary, tmp_path: Path
):
    model = tiny_encoder(family, source.vocab_size + 6)
    bias = model.get_output_embeddings().bias
    if bias is not None:
        bias.data = torch.linspace(-1, 1, len(bias))
    options = options_for(name, source, tmp_path)
    method = EitherZett(**options) if name == "zett" else INITIALIZERS.create(name, options)
    texts = (CODE,)
    if name == "context_distillation":
        with pytest.raises(UnsupportedModelError, match="left to right"):
            transplant(model, source, destination, method, texts=texts)
        return
    moved, result = transplant(model, source, destination, method, texts=texts)
    assert result.num_copied > 0
    assert result.num_composed > 0
    ids = torch.arange(destination.vocab_size)[None, -60:]
    with torch.no_grad():
        logits = moved(input_ids=ids).logits
    assert logits.shape[-1] == destination.vocab_size
    assert logits.isfinite().all()
    if bias is not None:
        shared = [
            (i, m.source_ids[0])
            for i, m in enumerate(match_tokens(source, destination))
            if m.is_shared
        ]
        to, taken = torch.tensor(shared).unbind(1)
        assert torch.equal(moved.get_output_embeddings().bias[to], bias[taken])


def test_special_ids_follow_their_names(source: Vocabulary, destination: Vocabulary):
    model = tiny_model("llama", vocab_size=source.vocab_size)
    model.config.bos_token_id = source.special_tokens["<s>"]
    model.generation_config.eos_token_id = [source.special_tokens["<pad>"]]
    moved, _ = transplant(model, source, destination, Mean())
    assert moved.config.bos_token_id == destination.special_tokens["<s>"]
    assert moved.generation_config.eos_token_id == [destination.special_tokens["<pad>"]]
    assert model.config.bos_token_id == source.special_tokens["<s>"]


def test_a_token_of_two_roles_becomes_two(source: Vocabulary, destination: Vocabulary):
    from dataclasses import replace

    first = source.special_tokens["<s>"]
    both = replace(source, bos_token_id=first, eos_token_id=first)
    document = json.loads(destination.tokenizer_json or "")
    for entry, name in zip(document["added_tokens"], ("<begin>", "<end>"), strict=True):
        entry["content"], before = name, entry["content"]
        document["model"]["vocab"][name] = document["model"]["vocab"].pop(before)
    apart = Vocabulary.from_tokenizer_json(document)
    names = apart.special_tokens
    apart = replace(apart, bos_token_id=names["<begin>"], eos_token_id=names["<end>"])
    model = tiny_model("llama", vocab_size=source.vocab_size)
    model.config.bos_token_id = model.config.eos_token_id = first
    moved, _ = transplant(model, both, apart, Mean())
    assert moved.config.bos_token_id == names["<begin>"]
    assert moved.config.eos_token_id == names["<end>"]
    rows = moved.get_input_embeddings().weight
    for name in names.values():
        assert torch.equal(rows[name], model.get_input_embeddings().weight[first])


def test_the_end_of_a_text_keeps_its_role_under_another_name(source: Vocabulary):
    from dataclasses import replace

    document = json.loads(source.tokenizer_json or "")
    document["added_tokens"][0]["content"] = "<|end|>"
    document["model"]["vocab"]["<|end|>"] = document["model"]["vocab"].pop("<s>")
    given = replace(source, eos_token_id=source.special_tokens["<s>"])
    renamed = Vocabulary.from_tokenizer_json(document)
    wanted = renamed.special_tokens["<|end|>"]
    renamed = replace(renamed, eos_token_id=wanted, bos_token_id=None)
    model = tiny_model("llama", vocab_size=source.vocab_size)
    model.config.eos_token_id = model.generation_config.eos_token_id = given.eos_token_id
    moved, result = transplant(model, given, renamed, Mean())
    assert result.num_copied == source.vocab_size
    assert moved.config.eos_token_id == moved.generation_config.eos_token_id == wanted
    rows = [m.get_input_embeddings().weight for m in (model, moved)]
    assert torch.equal(rows[0][given.eos_token_id], rows[1][wanted])


def test_a_tokenizer_larger_than_the_model_is_refused(source, destination):
    with pytest.raises(TokenizerMismatchError, match="only 100 rows"):
        transplant(tiny_model("llama", vocab_size=100), source, destination, Mean())


def test_quantised_embeddings_are_refused(source: Vocabulary, destination: Vocabulary):
    model = tiny_model("llama", vocab_size=source.vocab_size)
    rows = model.get_input_embeddings().weight
    model.get_input_embeddings().weight = torch.nn.Parameter(rows.to(torch.int8), False)
    with pytest.raises(UnsupportedModelError, match="quantised"):
        transplant(model, source, destination, Mean())


SMALL = {"length": 16, "batch_tokens": 64, "micro_tokens": 32}


def heal_input(vocabulary: Vocabulary, folder: Path) -> HealInput:
    ids = torch.tensor(vocabulary.encode(CODE * 3))
    return HealInput(
        model=tiny_model("llama", vocab_size=vocabulary.vocab_size),
        vocabulary=vocabulary,
        token_ids=ids,
        replay_ids=torch.tensor(vocabulary.encode(TEXT)),
        num_steps=6,
        seed=3,
        checkpoint=folder / "healing.pt",
        teacher=tiny_model("llama", vocab_size=vocabulary.vocab_size),
        teacher_vocabulary=vocabulary,
    )


@pytest.mark.parametrize("name", HEALERS.names())
def test_healer_resumes_to_the_same_weights(name: str, source: Vocabulary, tmp_path: Path):
    check_healer_resumes(HEALERS.create(name, SMALL), heal_input(source, tmp_path), kill_after=3)


@pytest.mark.parametrize("name", HEALERS.names())
def test_healing_lowers_the_loss(name: str, source: Vocabulary, tmp_path: Path):
    from dataclasses import replace

    inputs = replace(heal_input(source, tmp_path), num_steps=60)
    result = HEALERS.create(name, {**SMALL, "lr_embeddings": 1e-2}).heal(inputs)
    assert result.curve[-1].bits_per_byte < 0.8 * result.curve[0].bits_per_byte
    assert result.num_steps == 60
    assert result.num_bytes > result.num_tokens  # tokens are longer than a byte


def test_a_checkpoint_of_other_options_is_refused(source: Vocabulary, tmp_path: Path):
    from dataclasses import replace

    inputs = heal_input(source, tmp_path)
    HEALERS.create("cross_entropy", SMALL).heal(replace(inputs, num_steps=2))
    with pytest.raises(CorruptRunError, match="other options"):
        HEALERS.create("cross_entropy", SMALL).heal(inputs)


def test_a_damaged_checkpoint_is_refused(source: Vocabulary, tmp_path: Path):
    inputs = heal_input(source, tmp_path)
    assert inputs.checkpoint is not None
    inputs.checkpoint.write_bytes(b"not a checkpoint")
    with pytest.raises(CorruptRunError, match="damaged"):
        HEALERS.create("cross_entropy", SMALL).heal(inputs)


def test_healing_without_text_says_so(source: Vocabulary, tmp_path: Path):
    from dataclasses import replace

    inputs = replace(heal_input(source, tmp_path), token_ids=torch.arange(4))
    with pytest.raises(ConfigError, match="more text"):
        HEALERS.create("cross_entropy", SMALL).heal(inputs)


@pytest.mark.parametrize("bad", [{"replay": 1.0}, {"embeddings_only": -0.1}, {"length": 0}])
def test_bad_options_are_refused(bad: dict):
    with pytest.raises(ConfigError):
        HEALERS.create("cross_entropy", bad)
