"""Laws of training drafts over every registered trainer, on a tiny model."""

import copy
import json
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from jeton.cli.app import app
from jeton.core.run import RunFolder
from jeton.decoding.registry import DRAFTERS, VERIFIERS
from jeton.decoding.training.config import DraftTrainConfig
from jeton.decoding.training.contract import DRAFT_MODEL, TrainInput
from jeton.decoding.training.loop import train
from jeton.decoding.training.registry import DRAFT_TRAINERS
from jeton.decoding.training.run import resume_draft, train_draft
from jeton.errors import CheckpointError, ConfigError, CorruptRunError, InputError
from jeton.lm.load import load_model
from jeton.testing.decoding import check_equals_plain
from jeton.testing.models import tiny_language_model, tiny_tokenizer

SMALL = {
    "hydra": {"num_heads": 2, "width": 8, "num_ids": 40, "batch_tokens": 64, "length": 16},
    "medusa": {"num_heads": 2, "width": 8, "num_ids": 40, "batch_tokens": 64, "length": 16},
    "kangaroo": {"batch_tokens": 64, "length": 16},
    "specdec_pp": {"batch_tokens": 64, "length": 16},
    "fastdraft": {"hidden_size": 16, "num_written": 4, "batch_tokens": 64, "length": 16},
    "distillspec": {"prompt": 8, "num_rows": 4, "length": 16},
    "judge": {"batch_tokens": 64, "length": 16},
}
TEXT = "the rain in the then on the ring and the other in the rain. " * 8


@pytest.fixture(scope="module")
def target_folder(tmp_path_factory):
    """A tiny model with files, whose tokenizer a draft model needs."""
    folder = tmp_path_factory.mktemp("target") / "target"
    tiny_language_model("llama").model.save_pretrained(folder)
    tiny_tokenizer().save(str(folder / "tokenizer.json"))
    return folder


@pytest.fixture(scope="module")
def target(target_folder):
    return load_model(target_folder)


@pytest.fixture(scope="module")
def text(tmp_path_factory):
    folder = tmp_path_factory.mktemp("text")
    for number in range(4):
        (folder / f"{number}.txt").write_text(f"{number} {TEXT}")
    return folder


def trainer_of(name):
    return DRAFT_TRAINERS.create(name, SMALL[name])


def inputs_of(name, target):
    ids = torch.tensor(target.vocabulary.encode(TEXT))
    draft = tiny_language_model("llama", 1) if trainer_of(name).needs_draft else None
    return TrainInput(target, ids, draft)


@pytest.mark.parametrize("name", DRAFT_TRAINERS.names())
def test_the_target_stays_and_a_stopped_run_ends_alike(name, target, tmp_path):
    before = copy.deepcopy(target.model.state_dict())
    whole = trainer_of(name).prepare(inputs_of(name, target))
    result = train(whole, 6)
    assert result.num_steps == 6
    assert result.num_tokens == 6 * whole.tokens_per_step

    class StoppedError(Exception):
        pass

    stopped = trainer_of(name).prepare(inputs_of(name, target))
    kept = tmp_path / "kept.pt"
    plain_loss = stopped.loss_of

    def failing(step, num_steps):
        if step == 3:
            raise StoppedError
        return plain_loss(step, num_steps)

    first = tmp_path / "checkpoint.pt"
    # Checkpoints come by the clock; here after every step.
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("jeton.decoding.training.loop.CHECKPOINT_S", -1.0)
        object.__setattr__(stopped, "loss_of", failing)
        with pytest.raises(StoppedError):
            train(stopped, 6, checkpoint=first)
    kept.write_bytes(first.read_bytes())
    again = trainer_of(name).prepare(inputs_of(name, target))
    assert train(again, 6, checkpoint=kept).num_steps == 6
    for key, value in whole.module.state_dict().items():
        assert torch.equal(value, again.module.state_dict()[key]), key
    for key, value in before.items():
        assert torch.equal(value, target.model.state_dict()[key]), f"{key} of the target changed"
    with pytest.raises(CorruptRunError, match="another training run"):
        train(trainer_of(name).prepare(inputs_of(name, target)), 7, checkpoint=kept)


@pytest.mark.parametrize("name", DRAFT_TRAINERS.names())
def test_training_lowers_the_loss_and_its_result_can_be_used(name, target, tmp_path):
    trainer = trainer_of(name)
    inputs = inputs_of(name, target)
    job = trainer.prepare(inputs)
    with torch.no_grad():
        before = float(job.loss_of(1000, 20))
    train(job, 20)
    with torch.no_grad():
        assert float(job.loss_of(1000, 20)) < before
    folder = tmp_path / trainer.makes
    job.finish(folder)
    assert not list(tmp_path.glob("*.partial"))
    prompt = target.vocabulary.encode("the rain")
    if trainer.makes == DRAFT_MODEL:
        drafter, draft = DRAFTERS.create("draft_model", {"min_confidence": 0.0}), load_model(folder)
        assert draft.vocabulary.tokens == target.vocabulary.tokens
    elif trainer.makes in DRAFTERS.rows:
        unsure = {"min_confidence": 0.0} if trainer.makes == "kangaroo" else {}
        drafter = DRAFTERS.create(trainer.makes, {"weights": str(folder), **unsure})
        draft = inputs.draft
    else:
        config = json.loads((folder / "config.json").read_text())
        assert config["kind"] == trainer.makes
        assert trainer.makes in VERIFIERS.rows or trainer.makes == "judge"
        return
    loop = check_equals_plain(target, prompt, drafter, draft_model=draft)
    assert loop.stats.num_proposed > 0


@pytest.mark.parametrize("name", DRAFT_TRAINERS.names())
def test_a_run_folder_measures_and_resumes(name, target_folder, text, tmp_path):
    out = tmp_path / "out"
    draft = ""
    if trainer_of(name).needs_draft:
        draft = str(tmp_path / "draft")
        tiny_language_model("llama", 1).model.save_pretrained(draft)
        tiny_tokenizer().save(draft + "/tokenizer.json")
    config = DraftTrainConfig(
        target=str(target_folder),
        text=(text,),
        out=out,
        method=name,
        draft_model=draft,
        steps=2,
        measure_tokens=64,
        options={f"{name}.{key}": str(value) for key, value in SMALL[name].items()},
    )
    result = train_draft(config)
    assert result.num_steps == 2
    assert set(result.before) == set(result.after) != set()
    assert RunFolder(out).is_finished
    assert not (out / "checkpoint.pt").exists()
    again = resume_draft(out)
    assert (again.before, again.num_steps) == (result.before, 2)
    if name == "hydra":
        (text / "0.txt").write_text(f"0 {TEXT} changed")
        with pytest.raises(CorruptRunError, match="inputs changed"):
            resume_draft(out)
        (text / "0.txt").write_text(f"0 {TEXT}")


def test_the_verb_prints_one_document(target_folder, text, tmp_path):
    arguments = ["draft", "train", str(target_folder), "--text", str(text), "--json", "--quiet"]
    chosen = ["--method", "judge", "--steps", "1", "--measure-tokens", "64"]
    small = [f"--set=judge.{key}={value}" for key, value in SMALL["judge"].items()]
    out = tmp_path / "out"
    found = CliRunner().invoke(app, [*arguments, *chosen, *small, "--out", str(out)])
    assert found.exit_code == 0, found.output
    document = json.loads(found.stdout)
    assert document["method"] == "judge"
    assert document == {**json.loads((out / "result.json").read_text()), **document}
    assert Path(document["folder"]).is_dir()
    with pytest.raises(ConfigError, match="can train"):
        CliRunner().invoke(app, ["draft", "trian"], catch_exceptions=False)


def test_minutes_become_steps(target_folder, text, tmp_path):
    config = DraftTrainConfig(
        target=str(target_folder),
        text=(text,),
        out=tmp_path / "out",
        method="judge",
        minutes=0.001,
        measure_tokens=64,
    )
    result = train_draft(config)
    assert result.num_steps >= 1
    assert resume_draft(tmp_path / "out").num_steps == result.num_steps


@pytest.mark.parametrize(
    ("changes", "error", "words"),
    [
        ({"method": "hydar"}, LookupError, "did you mean|has no method"),
        ({"minutes": 0.0}, ConfigError, "minutes"),
        ({"steps": 0}, ConfigError, "steps"),
        ({"text": ()}, ConfigError, "no text"),
        ({"method": "distillspec"}, ConfigError, "trains a draft model further"),
        ({"draft_model": "x"}, ConfigError, "makes its own draft"),
        ({"options": {"medusa.width": "3"}}, ConfigError, "does not belong"),
        ({"options": {"hydra.widht": "3"}}, ConfigError, "no option"),
    ],
)
def test_mistakes_leave_nothing_behind(changes, error, words, target_folder, text, tmp_path):
    values = {"target": str(target_folder), "text": (text,), "out": tmp_path / "out", **changes}
    with pytest.raises(error, match=words):
        train_draft(DraftTrainConfig(**values))
    assert not (tmp_path / "out").exists()


def test_too_little_text(target_folder, tmp_path):
    (tmp_path / "a.txt").write_text("the")
    with pytest.raises((InputError, ConfigError)):
        train_draft(
            DraftTrainConfig(str(target_folder), (tmp_path / "a.txt",), tmp_path / "out", steps=1)
        )


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("hydra", {"num_heads": 0}),
        ("medusa", {"decay": 0.0}),
        ("kangaroo", {"num_layers": 0}),
        ("specdec_pp", {"rate": 1.0}),
        ("specdec_pp", {"lr": 0.0}),
        ("fastdraft", {"hidden_size": 10}),
        ("fastdraft", {"pretraining": 2.0}),
        ("distillspec", {"divergence": "kl"}),
        ("distillspec", {"writer": "nobody"}),
        ("distillspec", {"length": 0}),
        ("judge", {"rate": 0.0}),
    ],
)
def test_bad_options_are_refused(name, options):
    with pytest.raises(ConfigError):
        DRAFT_TRAINERS.create(name, options)


def test_a_damaged_checkpoint(target, tmp_path):
    path = tmp_path / "checkpoint.pt"
    path.write_bytes(b"PK no")
    with pytest.raises(CorruptRunError, match="damaged"):
        train(trainer_of("judge").prepare(inputs_of("judge", target)), 2, checkpoint=path)


def test_kangaroo_needs_a_deeper_target(target):
    with pytest.raises(ConfigError, match="num_layers must be 1 to 1"):
        DRAFT_TRAINERS.create("kangaroo", {"num_layers": 2}).prepare(inputs_of("judge", target))


def test_a_draft_model_needs_files(tmp_path):
    made_in_memory = tiny_language_model("llama")
    job = trainer_of("fastdraft").prepare(inputs_of("fastdraft", made_in_memory))
    with pytest.raises(ConfigError, match="no folder"):
        job.finish(tmp_path / "draft")


def test_damaged_weights_are_named(target, tmp_path):
    job = trainer_of("hydra").prepare(inputs_of("hydra", target))
    folder = tmp_path / "hydra"
    job.finish(folder)
    (folder / "model.safetensors").write_bytes(b"no")
    drafter = DRAFTERS.create("hydra", {"weights": str(folder)})
    with pytest.raises(CheckpointError, match="cannot be read"):
        check_equals_plain(target, [1, 2], drafter)
