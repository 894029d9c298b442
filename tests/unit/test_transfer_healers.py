"""The formulas of the healers, what they leave alone, memory that runs out, several processes."""

import copy
import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import distributed, multiprocessing

from jeton.core.vocabulary import Vocabulary
from jeton.errors import ConfigError, CorruptRunError, MissingExtraError
from jeton.testing.models import tiny_model, tiny_tokenizer
from jeton.transfer.alignment import align, cut_row
from jeton.transfer.budget import steps_within
from jeton.transfer.contract import HealInput
from jeton.transfer.damping import damp
from jeton.transfer.guide import Guides
from jeton.transfer.healers import gold, uld
from jeton.transfer.healers.alm import (
    _LEAST,
    Alm,
    _Objective,
    binarised_divergence,
    shared_divergence,
)
from jeton.transfer.healers.cross_entropy import CrossEntropy
from jeton.transfer.healers.gold import Gold, generalised_jsd
from jeton.transfer.healers.schedule import parse_shares
from jeton.transfer.healers.uld import Uld
from jeton.transfer.paired import sorted_distance
from jeton.transfer.registry import HEALERS
from jeton.transfer.training import (
    Batch,
    Group,
    LanguageModelLoss,
    TrainingOptions,
    embedding_parameters,
    train,
)

GOLDEN = Path(__file__).parents[1] / "golden" / "transfer"
TEXT = "the cat and the hat ran in the rain on the train\nat ten then\n" * 40
SMALL: dict[str, Any] = {"length": 16, "batch_tokens": 64, "micro_tokens": 32}


@pytest.fixture(scope="module")
def words() -> Vocabulary:
    """Byte-level BPE with merges and an end of text."""
    vocabulary = Vocabulary.from_tokenizer_json(tiny_tokenizer().to_str())
    return replace(vocabulary, eos_token_id=0)


@pytest.fixture(scope="module")
def letters() -> Vocabulary:
    """The same alphabet without merges."""
    document = json.loads(tiny_tokenizer().to_str())
    document["model"]["merges"] = []
    document["model"]["vocab"] = {t: i for t, i in document["model"]["vocab"].items() if i < 257}
    vocabulary = Vocabulary.from_tokenizer_json(document)
    return replace(vocabulary, eos_token_id=0)


def joined(vocabulary: Vocabulary, texts: list[str]) -> torch.Tensor:
    ids = [i for text in texts for i in (0, *vocabulary.encode(text))]
    return torch.tensor(ids)


def make_input(student: Vocabulary, other: Vocabulary, **changes: Any) -> HealInput:
    given = HealInput(
        model=tiny_model("llama", seed=1, vocab_size=student.vocab_size),
        vocabulary=student,
        token_ids=joined(student, [TEXT, TEXT[7:500]]),
        num_steps=4,
        teacher=tiny_model("llama", seed=2, vocab_size=other.vocab_size),
        teacher_vocabulary=other,
        seed=1,
    )
    return replace(given, **changes)


def test_alm_equals_the_worked_example():
    case = json.loads((GOLDEN / "alm.json").read_text(encoding="utf-8"))
    teacher, student = (
        torch.tensor(case[k], dtype=torch.float64).log() for k in ("teacher", "student")
    )
    for name in ("kl", "reverse_kl", "total_variation"):
        found = binarised_divergence(teacher, student, case["tau"], name)
        expected = torch.tensor(case[name], dtype=torch.float64)
        torch.testing.assert_close(found, expected, atol=1e-9, rtol=0)


def test_uld_equals_the_worked_example():
    case = json.loads((GOLDEN / "uld.json").read_text(encoding="utf-8"))
    found = sorted_distance(torch.tensor([case["teacher"]]), torch.tensor([case["student"]]))
    torch.testing.assert_close(found, torch.tensor([case["distance"]]))


def test_gold_equals_the_worked_example():
    case = json.loads((GOLDEN / "gold.json").read_text(encoding="utf-8"))
    teacher, student = (
        torch.tensor([case[k]], dtype=torch.float64) for k in ("teacher", "student")
    )
    for beta, value in case["expected"].items():
        found = generalised_jsd(teacher, student, float(beta))
        assert float(found) == pytest.approx(value, abs=1e-8)


@pytest.mark.parametrize("divergence", ["kl", "reverse_kl"])
@pytest.mark.parametrize("tau", [1.0, 100.0])
def test_alm_gradient_matches_the_formula(divergence: str, tau: float):
    generator = torch.Generator().manual_seed(0)
    teacher = -3 * torch.rand(8, generator=generator, dtype=torch.float64) - 0.01
    student = (-3 * torch.rand(8, generator=generator, dtype=torch.float64) - 0.01).requires_grad_()
    assert torch.autograd.gradcheck(
        lambda x: binarised_divergence(teacher, x, tau, divergence), student
    )
    # d/dx_S of the divergence from p_T to p_S, in closed form.
    binarised_divergence(teacher, student, tau, "kl").sum().backward()
    p_t, p_s = (teacher / tau).exp(), (student.detach() / tau).exp()
    torch.testing.assert_close(student.grad, (p_s - p_t) / (1 - p_s) / tau)


def test_alm_at_certain_chunks_is_finite():
    x = torch.zeros(3, requires_grad=True)
    loss = binarised_divergence(torch.tensor([0.0, -1e-9, -2.0]), x, 100.0)
    loss.sum().backward()
    assert bool(torch.isfinite(loss).all()) and _LEAST < 0


@pytest.mark.parametrize("divergence", ["kl", "reverse_kl", "total_variation"])
def test_alm_at_identical_tokenizers_is_token_distillation(words: Vocabulary, divergence: str):
    inputs = make_input(words, words)
    inputs.model.double(), inputs.teacher.double()
    options = Alm(
        **SMALL,
        tau=2.0,
        divergence=divergence,
        debias=False,
        cross_entropy=0.0,
        shared=0.0,
        precision="float32",
    )
    start, length = 5, 16
    rows = inputs.token_ids[None, start : start + length + 1]
    loss, nats = _Objective(options, inputs).loss(Batch(rows, [start], [False]))
    with torch.no_grad():
        logprobs = [
            m(rows[:, :-1]).logits.log_softmax(-1).gather(-1, rows[:, 1:, None])[0, :, 0]
            for m in (inputs.teacher, inputs.model)
        ]
    expected = binarised_divergence(*logprobs, 2.0, divergence).sum() * 2.0
    torch.testing.assert_close(loss, expected)
    torch.testing.assert_close(nats, -logprobs[1].sum())


def test_debiased_chunks_carry_the_probability_of_their_end(words: Vocabulary):
    inputs = make_input(words, words)
    inputs.model.double(), inputs.teacher.double()
    rows = inputs.token_ids[None, 3:20]
    plain, debiased = (
        _Objective(Alm(**SMALL, debias=d, cross_entropy=0.0, precision="float32"), inputs)
        for d in (False, True)
    )
    batch = Batch(rows, [3], [False])
    assert not torch.isclose(plain.loss(batch)[0], debiased.loss(batch)[0])
    inputs.teacher.load_state_dict(inputs.model.state_dict())
    inputs.model.zero_grad()
    again = _Objective(Alm(**SMALL, cross_entropy=0.0, shared=1.0, precision="float32"), inputs)
    again.loss(batch)[0].backward()  # the student is the teacher: nothing to learn
    assert max(float(p.grad.abs().max()) for p in inputs.model.parameters()) < 1e-9


def test_guides_are_kept_and_do_not_depend_on_their_batch(words: Vocabulary, letters: Vocabulary):
    inputs = make_input(words, letters)
    guides = Guides(inputs, debias=True, top_k=4, precision="float32")
    starts = [0, 24, 40]
    rows = torch.stack([inputs.token_ids[s : s + 17] for s in starts])
    together = guides.of_batch(Batch(rows, starts, [False] * 3))
    assert guides.of_batch(Batch(rows[1:2], starts[1:2], [False]))[0] is together[1]
    alone = Guides(inputs, debias=True, top_k=4, precision="float32", keep=False)
    (other,) = alone.of_batch(Batch(rows[1:2], starts[1:2], [False]))
    assert torch.equal(other.logprob, together[1].logprob)
    assert other.token_ids.shape == (len(other.position), 4)
    assert int(other.token_ids.max()) < words.vocab_size
    assert not alone.kept


def test_shared_divergence_is_least_at_the_teacher():
    teacher = torch.tensor([[0.5, 0.2], [0.9, 0.05]], dtype=torch.float64)
    student = teacher.log().requires_grad_()
    shared_divergence(teacher, student).sum().backward()
    # Along every direction that keeps the sum of all probabilities: p_i (1/p_i - 1/p_rest) = 0.
    rest = 1 - teacher.sum(-1, keepdim=True)
    expected = -teacher + rest * teacher / rest
    torch.testing.assert_close(student.grad, expected)


def test_alignment_pairs_every_shared_byte(words: Vocabulary, letters: Vocabulary):
    texts = ["the then", "é and\n", "a"]
    ids = joined(words, texts)
    text = align(words, letters, ids)
    assert text.teacher_ids.tolist() == joined(letters, texts).tolist()
    # Places: an end of text and the bytes of each document.
    assert text.student_ends[-1] == text.teacher_ends[-1] == sum(len(t.encode()) + 1 for t in texts)
    row = cut_row(text, 0, len(ids) - 1, 1 << 20)
    ends = text.student_ends[row.student_index]
    assert ends.tolist() == text.teacher_ends[row.teacher_index].tolist()
    assert ends.tolist() == text.student_ends.tolist()  # letters end where words end
    limited = cut_row(text, 2, 4, 3)
    assert len(limited.teacher_ids) == 4
    assert int(limited.teacher_index[-1]) <= 3


def test_rows_of_equal_tokenizers_are_equal(words: Vocabulary):
    ids = joined(words, [TEXT[:300], TEXT[100:200]])
    text = align(words, words, ids)
    for start in (0, 1, 17, len(ids) - 9):
        row = cut_row(text, start, 8, 1 << 20)
        assert row.teacher_ids.tolist() == ids[start : start + 9].tolist()
        assert row.student_index.tolist() == row.teacher_index.tolist() == list(range(9))


def test_damping_follows_the_second_moment_of_adam():
    """After each step eps is the share of the root of Adam's own corrected mean square."""
    generator = torch.Generator().manual_seed(0)
    matrix, other = (torch.nn.Parameter(torch.zeros(5, 3, dtype=torch.float64)) for _ in range(2))
    groups = [{"params": [matrix]}, {"params": [other]}]
    optimizer = torch.optim.AdamW(groups, lr=0.1, betas=(0.9, 0.98), weight_decay=0.0)
    means = torch.zeros(5, 3, dtype=torch.float64)
    for step in range(1, 4):
        before = matrix.detach().clone()
        gradient = torch.randn((5, 3), generator=generator, dtype=torch.float64)
        gradient[3:] *= 1e-6  # rare rows
        matrix.grad, other.grad = gradient.clone(), gradient.clone()
        damp(optimizer, {id(matrix)}, 0.25)
        optimizer.step()
        square = optimizer.state[matrix]["exp_avg_sq"] / (1 - 0.98**step)
        eps = 0.25 * float(square.mean().sqrt())
        assert optimizer.param_groups[0]["eps"] == pytest.approx(eps, rel=1e-9)
        assert optimizer.param_groups[1]["eps"] == 1e-8
        means = 0.9 * means + 0.1 * gradient
        expected = before - 0.1 * means / (1 - 0.9**step) / (square.sqrt() + eps)
        torch.testing.assert_close(matrix.detach(), expected)
    assert float(matrix.detach()[3:].abs().max()) < 1e-4 < float(other.detach()[3:].abs().min())


@pytest.mark.parametrize("name", ["uld", "gold"])
def test_baselines_add_their_distance_to_cross_entropy(words: Vocabulary, name: str):
    """At identical tokenizers both distributions are compared at every place of a row."""
    inputs = make_input(words, words)
    inputs.model.double(), inputs.teacher.double()
    start, length = 5, 16
    rows = inputs.token_ids[None, start : start + length + 1]
    made = {"uld": (uld, Uld), "gold": (gold, Gold)}
    module, options = made[name]
    method = options(**SMALL, weight=0.7, cross_entropy=0.3, precision="float32")
    loss, nats = module._Objective(method, inputs).loss(Batch(rows, [start], [False]))
    with torch.no_grad():
        teacher, student = (
            m(rows[:, :-1]).logits[0].softmax(-1) for m in (inputs.teacher, inputs.model)
        )
    if name == "uld":
        apart = teacher.sort(-1, descending=True).values - student.sort(-1, descending=True).values
        distance = apart.abs().sum()
    else:  # every token is shared: the divergence alone
        mixed = (0.5 * teacher + 0.5 * student).log()
        both = [(p * (p.log() - mixed)).sum() for p in (teacher, student)]
        distance = 0.5 * (both[0] + both[1])
    torch.testing.assert_close(loss, 0.3 * nats + 0.7 * distance, rtol=1e-6, atol=1e-6)


def test_gold_weighs_its_parts_by_the_share_of_shared_tokens(
    words: Vocabulary, letters: Vocabulary
):
    objective = gold._Objective(Gold(**SMALL), make_input(letters, words))
    generator = torch.Generator().manual_seed(0)
    teacher, student = (
        torch.randn((1, v.vocab_size), generator=generator, dtype=torch.float64).softmax(-1)
        for v in (words, letters)
    )
    size = letters.vocab_size  # all letters are words too, under the same ids
    assert objective.teacher_ids.tolist() == objective.student_ids.tolist() == list(range(size))
    share = size / words.vocab_size
    matched = generalised_jsd(teacher[:, :size], student, 0.5)
    rest = teacher[0, size:].sum()  # the student has nothing else: sorted against zeros
    expected = share * matched.sum() + (1 - share) * rest
    torch.testing.assert_close(objective.distance(teacher, student), expected)


class _Steps:
    """A progress that notes how far each step moved a parameter, as a share of its rate."""

    def __init__(self, parameter: torch.Tensor, lr: float) -> None:
        self.parameter, self.lr, self.moved = parameter, lr, []

    def track(self, items: Any, total: int | None, what: str, unit: str) -> Any:
        for item in items:
            before = self.parameter.detach().clone()
            yield item
            self.moved.append(float((self.parameter.detach() - before).abs().max()) / self.lr)

    def stage(self, what: str) -> None:
        """Say nothing."""


def test_rates_warm_up_and_fall_and_the_body_rests_first(words: Vocabulary):
    inputs = make_input(words, words, num_steps=25)
    weight = inputs.model.model.layers[0].mlp.up_proj.weight
    steps = _Steps(weight, 1e-4)
    options = {**SMALL, "lr_body": 1e-4, "embeddings_only": 0.2}
    HEALERS.create("cross_entropy", options).heal(replace(inputs, progress=steps))
    assert steps.moved[:5] == [0.0] * 5  # a fifth of the steps
    # The first step of Adam moves an entry by the rate itself: 6 of 10 steps of warm-up.
    assert steps.moved[5] == pytest.approx(0.6, rel=1e-2)
    assert steps.moved[-1] < 0.1  # 1.25 / 25 at the end
    early = _Steps(inputs.model.get_input_embeddings().weight, 1e-2)
    again = make_input(words, words, num_steps=2, progress=early)
    early.parameter = again.model.get_input_embeddings().weight
    HEALERS.create("embedding_ce", {**SMALL, "damping": 0.0}).heal(again)
    assert early.moved[0] == pytest.approx(0.1, rel=1e-2)


@pytest.mark.parametrize("share", [0.0, 0.5])
def test_replay_takes_its_share_of_the_rows(words: Vocabulary, share: float):
    inputs = make_input(words, words, num_steps=20, replay_ids=joined(words, [TEXT]))
    found: list[bool] = []

    class Noting(LanguageModelLoss):
        def loss(self, batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
            found.extend(batch.is_replay)
            return super().loss(batch)

    options = TrainingOptions(**SMALL, replay=share)
    groups = [Group(embedding_parameters(inputs.model), 1e-3)]
    train(options, inputs, Noting(options, inputs.model, groups))
    assert len(found) == 80
    assert abs(sum(found) / 80 - share) < 0.15 * (share > 0) + 1e-9


def test_embedding_ce_leaves_the_body_alone(words: Vocabulary):
    inputs = make_input(words, words)
    before = {n: p.clone() for n, p in inputs.model.named_parameters()}
    HEALERS.create("embedding_ce", SMALL).heal(inputs)
    moved = {id(p) for p in embedding_parameters(inputs.model)}
    for name, parameter in inputs.model.named_parameters():
        assert torch.equal(parameter, before[name]) == (id(parameter) not in moved), name


@pytest.mark.parametrize("family", ["llama", "gpt2", "gemma3", "opt"])
def test_lora_merges_and_leaves_no_trace(words: Vocabulary, family: str, tmp_path: Path):
    pytest.importorskip("peft")
    from transformers import AutoModelForCausalLM

    model = tiny_model(family, vocab_size=words.vocab_size)
    names = [name for name, _ in model.named_parameters()]
    was_tied = model.get_input_embeddings().weight is model.get_output_embeddings().weight
    body = {n: p.clone() for n, p in model.named_parameters()}
    HEALERS.create("lora", {**SMALL, "r": 2}).heal(make_input(words, words, model=model))
    assert [name for name, _ in model.named_parameters()] == names
    assert all(p.requires_grad for p in model.parameters())
    is_tied = model.get_input_embeddings().weight is model.get_output_embeddings().weight
    assert was_tied == is_tied
    assert sum(not torch.equal(p, body[n]) for n, p in model.named_parameters()) > 4
    model.save_pretrained(tmp_path)
    loaded = AutoModelForCausalLM.from_pretrained(tmp_path).eval()
    ids = torch.arange(10)[None]
    with torch.no_grad():
        assert torch.equal(loaded(ids).logits, model(ids).logits)


def test_lora_without_peft_names_the_extra(words: Vocabulary, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "peft", None)
    with pytest.raises(MissingExtraError, match="peft") as caught:
        HEALERS.create("lora", SMALL).heal(make_input(words, words))
    assert "jeton[train]" in str(caught.value.hint)


def test_a_stopped_lora_gives_the_model_back(words: Vocabulary):
    pytest.importorskip("peft")
    inputs = make_input(words, words)
    names = [name for name, _ in inputs.model.named_parameters()]
    with pytest.raises(ConfigError, match="more text"):
        HEALERS.create("lora", SMALL).heal(replace(inputs, token_ids=torch.arange(4)))
    assert [name for name, _ in inputs.model.named_parameters()] == names
    assert all(p.requires_grad for p in inputs.model.parameters())


def test_schedule_runs_its_parts(words: Vocabulary, tmp_path: Path):
    options = {**SMALL, "parts": "embedding_ce:1,alm:3"}
    healer = HEALERS.create("schedule", options)
    assert healer.needs_teacher and not HEALERS.create("schedule").needs_teacher
    inputs = make_input(words, words, checkpoint=tmp_path / "healing.pt")
    result = healer.heal(inputs)
    assert result.num_steps == 4
    assert [p.step for p in result.curve] == [1, 2, 3, 4]
    with pytest.raises(CorruptRunError, match="other options"):
        HEALERS.create("schedule", {**options, "parts": "alm"}).heal(inputs)


@pytest.mark.parametrize("bad", ["", "alm:x", "alm:-1", "schedule:1", ":1"])
def test_schedule_refuses_bad_parts(bad: str):
    with pytest.raises(ConfigError):
        parse_shares(bad)


@pytest.mark.parametrize("name", ["alm", "uld", "gold"])
def test_distillation_without_a_teacher_says_so(name: str, words: Vocabulary):
    inputs = make_input(words, words, teacher=None, teacher_vocabulary=None)
    with pytest.raises(ConfigError, match="teacher"):
        HEALERS.create(name, SMALL).heal(inputs)


BAD = [{"tau": 0.0}, {"divergence": "kll"}, {"weight": -1.0}, {"precision": "int8"}]


@pytest.mark.parametrize("bad", BAD)
def test_alm_refuses_bad_options(bad: dict[str, Any]):
    with pytest.raises(ConfigError):
        Alm(**bad)


class Hungry(torch.nn.Module):
    """A model that runs out of memory with more rows than a limit."""

    def __init__(self, model: Any, most_rows: int) -> None:
        super().__init__()
        self.inner, self.most_rows = model, most_rows
        self.config, self.device = model.config, model.device

    def get_input_embeddings(self) -> Any:
        return self.inner.get_input_embeddings()

    def get_output_embeddings(self) -> Any:
        return self.inner.get_output_embeddings()

    def forward(self, input_ids: torch.Tensor, **options: Any) -> Any:
        if len(input_ids) > self.most_rows:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB")
        return self.inner(input_ids=input_ids, **options)


def test_out_of_memory_takes_smaller_parts_and_says_so(words: Vocabulary):
    inputs = make_input(words, words)
    plain, hungry = copy.deepcopy(inputs.model), Hungry(copy.deepcopy(inputs.model), 2)
    options = {"length": 16, "batch_tokens": 64, "micro_tokens": 64, "precision": "float32"}
    with pytest.warns(UserWarning, match=r"2 rows of 16 tokens .*micro_tokens=32"):
        CrossEntropy(**options).heal(replace(inputs, model=hungry))
    CrossEntropy(**{**options, "micro_tokens": 32}).heal(replace(inputs, model=plain))
    for a, b in zip(plain.parameters(), hungry.inner.parameters(), strict=True):
        assert torch.equal(a, b)


def test_one_row_that_does_not_fit_is_an_error(words: Vocabulary):
    inputs = make_input(words, words)
    hungry = Hungry(inputs.model, 0)
    with pytest.raises(ConfigError, match="does not fit") as caught:
        CrossEntropy(length=16, batch_tokens=16, micro_tokens=16).heal(
            replace(inputs, model=hungry)
        )
    assert "length=8" in str(caught.value.hint)


def _worker(rank: int, folder: str) -> None:
    distributed.init_process_group(
        "gloo", init_method=f"file://{folder}/store", rank=rank, world_size=2
    )
    vocabulary = replace(Vocabulary.from_tokenizer_json(tiny_tokenizer().to_str()), eos_token_id=0)
    inputs = make_input(vocabulary, vocabulary, checkpoint=Path(folder) / "healing.pt")
    CrossEntropy(**SMALL, precision="float32").heal(inputs)
    torch.save(inputs.model.state_dict(), Path(folder) / f"{rank}.pt")
    distributed.destroy_process_group()


def test_steps_follow_from_the_clock(words: Vocabulary, tmp_path: Path):
    class TenSecondsAStep:
        seconds = 0.0

        def heal(self, inputs: HealInput) -> None:
            assert inputs.checkpoint is None
            self.seconds += 5 + 10 * inputs.num_steps  # five of them whatever the steps

    healer = TenSecondsAStep()
    inputs = make_input(words, words, checkpoint=tmp_path / "healing.pt")
    found = steps_within(healer, inputs, 65.0, clock=lambda: healer.seconds)  # type: ignore[arg-type]
    assert found == 6
    assert steps_within(healer, inputs, 0.0, clock=lambda: healer.seconds) == 1  # type: ignore[arg-type]


@pytest.mark.slow
def test_two_processes_heal_like_one(
    words: Vocabulary, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.syspath_prepend(Path(__file__).parents[2])  # the workers import this file
    multiprocessing.spawn(_worker, (str(tmp_path),), nprocs=2)
    inputs = make_input(words, words)
    CrossEntropy(**SMALL, precision="float32").heal(inputs)
    first, second = (torch.load(tmp_path / f"{rank}.pt") for rank in (0, 1))
    assert (tmp_path / "healing.pt").is_file()
    for name, value in inputs.model.state_dict().items():
        assert torch.equal(first[name], second[name])
        torch.testing.assert_close(first[name], value, atol=1e-4, rtol=1e-3)
