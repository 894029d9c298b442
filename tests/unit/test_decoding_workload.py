"""Workloads, the trace of a generation and its page, the automatic choice."""

import json

import pytest
import torch

from jeton.decoding.contract import DraftContext, Sampling, Step
from jeton.decoding.create import create_drafter, source_names
from jeton.decoding.generation import generate
from jeton.decoding.loops import loop_share
from jeton.decoding.registry import DRAFTERS, VERIFIERS
from jeton.decoding.replay import replay
from jeton.decoding.trace import Trace
from jeton.decoding.workload import Item, read_workload, record
from jeton.errors import ConfigError, InputError
from jeton.lm.cost import CostTable
from jeton.lm.tree import TokenTree
from jeton.report.decoding_page import GenerationReport, generation_document
from jeton.report.html import render_html
from jeton.testing.decoding import tiny_language_model


def test_a_workload_is_read_from_the_usual_files(tmp_path):
    lines = [
        {"prompt": "p", "completion": "c"},
        {"question": "q", "answer": "a"},
        {"text": "t"},
        {"turns": ["one", "two"]},
        {"messages": [{"role": "user", "content": "u"}, {"role": "assistant", "content": "v"}]},
        "alone",
    ]
    file = tmp_path / "work.jsonl"
    file.write_text("\n".join(map(json.dumps, lines)) + "\n\n")
    expected = [Item("p", "c"), Item("q", "a"), Item("", "t"), Item("one"), Item("u\n", "v")]
    assert read_workload(file) == [*expected, Item("alone")]
    assert len(read_workload(file, max_items=2)) == 2
    plain = tmp_path / "work.txt"
    plain.write_text(("word " * 300 + "\n\n") * 6)
    assert [len(item.answer) for item in read_workload(plain)] == [4506, 4506]


@pytest.mark.parametrize("line", ["{", "[1]", "{}", '{"turns": []}', '{"prompt": 3}'])
def test_lines_that_are_no_items_are_refused(tmp_path, line):
    file = tmp_path / "work.jsonl"
    file.write_text(line)
    with pytest.raises(InputError, match="line 1"):
        read_workload(file)


def test_empty_and_missing_workloads_are_refused(tmp_path):
    (tmp_path / "empty.txt").write_text("\n\n")
    with pytest.raises(ConfigError, match="holds no prompts"):
        read_workload(tmp_path / "empty.txt")
    with pytest.raises(InputError, match="cannot be read"):
        read_workload(tmp_path / "none.txt")
    with pytest.raises(ConfigError, match="three tokens"):
        record(tiny_language_model("llama"), [Item("", "A")])


def test_the_model_answers_where_no_answer_is_known():
    lm = tiny_language_model("llama")
    given, own, text = record(
        lm, [Item("##", "$$$"), Item("##"), Item("", "#" * 20)], num_decoded_tokens=6
    )
    assert (given.token_ids, given.num_prompt_tokens) == ((3, 3, 4, 4, 4), 2)
    assert list(own.token_ids[2:]) == generate(lm, "##", max_new_tokens=6).token_ids
    assert (len(text.token_ids), text.num_prompt_tokens) == (20, 14)


def test_a_trace_names_who_drafted_and_the_page_shows_it():
    lm, prompt = tiny_language_model("llama"), [5, 6, 7, 5, 6, 7]
    drafter = create_drafter("lookahead+prompt_lookup")
    trace = Trace(source_names("", drafter))
    found = generate(lm, prompt, max_new_tokens=30, stop_ids=[], drafter=drafter, watch=trace)
    marks = [name for step in trace.steps for name in step.drafted_by]
    assert [i for step in trace.steps for i in step.token_ids] == found.token_ids
    assert len(marks) == 30 and set(marks) <= {"target", "lookahead", "prompt_lookup"}
    assert sum(mark != "target" for mark in marks) == found.stats.num_accepted > 0
    assert trace.acceptance is None
    tokens = [lm.vocabulary.bytes_of([i]) for i in found.token_ids]
    report = GenerationReport(
        "tiny", b"<prompt>", tokens, found, trace, "both", "greedy", "greedy, cpu", 0.5, 20.0
    )
    page = render_html(generation_document(report))
    assert "&lt;prompt&gt;" in page and "lookahead" in page and "against transformers" in page
    assert ("repeats itself" in page) == (loop_share(found.token_ids) > 0.4)


@pytest.mark.parametrize("verifier", ["rsd", "multi_round", "optimal_transport"])
def test_a_trace_compares_with_the_optimum(verifier):
    lm, draft = tiny_language_model("llama"), tiny_language_model("llama", 1)
    trace = Trace(["draft_tree"], draws=VERIFIERS.load(verifier).draws)
    generate(
        lm,
        [5, 6, 7],
        max_new_tokens=40,
        stop_ids=[],
        drafter="draft_tree",
        draft_model=draft,
        verifier=verifier,
        sampling=Sampling(temperature=1.0),
        watch=trace,
    )
    judged = sum(step.num_judged for step in trace.steps)
    assert judged >= 20 and trace.acceptance is not None
    assert all(0 <= step.bound <= step.num_judged for step in trace.steps)
    # Three standard errors of a mean of chances.
    assert abs(trace.acceptance - trace.optimal_acceptance) < 0.2 + 1.5 / judged**0.5


def told(auto, text, start, width=1):
    """Drive a drafter along a text; return the nodes it drafted at each step."""
    auto.begin(DraftContext(text[:start], 100, Sampling()))
    drafted, place = [], start
    while place < len(text):
        tree = auto.propose(6)
        drafted.append(len(tree))
        path, node = [0], -1
        for child, parent in enumerate(tree.parents):
            at = place + len(path) - 1
            if parent == node and at < len(text) - 1 and tree.token_ids[child] == text[at]:
                node = child
                path.append(child + 1)
        new = text[place : place + len(path)]
        root = TokenTree([1, *tree.token_ids], [-1, *(p + 1 for p in tree.parents)])
        auto.observe(Step(root, tuple(path), tuple(new), torch.zeros(len(root), 100)))
        place += len(new)
    return drafted


def test_auto_drafts_where_it_pays_and_sleeps_where_not():
    random_text = torch.randint(100, (400,), generator=torch.Generator().manual_seed(1)).tolist()
    auto = DRAFTERS.create("auto", {"probe_every": 10})
    asleep = told(auto, random_text, 10)
    assert sum(size > 0 for size in asleep[60:]) < 0.05 * len(asleep)
    copying = told(auto, random_text[:80] * 3, 80)
    assert len(copying) < 50, "most of the copy is drafted"
    mixed = told(auto, random_text + random_text[:200], 10)
    assert len(mixed) < 500, "it wakes up when the text begins to repeat"


def test_auto_takes_its_costs_from_the_table():
    table = CostTable([1, 9], [1e-3, 1.8e-3], 0, "toy", "float32")
    auto = create_drafter("auto", cost=table)
    assert auto.node_cost == pytest.approx(0.1)
    assert auto.overhead == pytest.approx(0.1)
    for bad in ({"drafters": "auto+rest"}, {"drafters": "draft_model"}, {"probe_every": 0}):
        with pytest.raises(ConfigError):
            DRAFTERS.create("auto", bad)
    lm, text = tiny_language_model("llama"), [5, 6, 7, 8, 9, 10, 11] * 9
    figures = replay(lm, text, num_prompt_tokens=20, drafter=auto)
    assert figures.tokens_per_step > 2
