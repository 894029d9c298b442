"""kvpress beside our policies: what its environment answers, and environments that lack it."""

import json
import sys

import pytest

from jeton.errors import ConfigError
from jeton.kv.harness import KvBench, run_chains
from jeton.kv.peer import check_peer, run_peer
from jeton.kv.policies.streaming import Streaming
from jeton.report.html import render_html
from jeton.report.kv_page import kv_document


def _streaming(budget, contexts):
    return Streaming(budget=budget)


@pytest.fixture
def fake(tmp_path):
    """A command in the place of the other environment's Python; it keeps the job it is given."""
    answers = {"each_key": 0.75, "single": 0.5, "multi": 0.25}
    row = {"policy": "streaming", "keep": 0.5, "accuracy": answers, "bytes": 65536}
    reply = json.dumps({"rows": [{**row, "ms_per_step": 2.5}]})
    path = tmp_path / "python"
    path.write_text(f"#!/bin/sh\ncat > {tmp_path}/job.json\necho '{reply}'\n", encoding="utf-8")
    path.chmod(0o755)
    return path


def test_the_answers_of_the_peer_stand_beside_ours(fake, tmp_path):
    policies = {"streaming": _streaming, "page_bounds": _streaming}
    options = {"keeps": [0.5], "length": 128, "num_contexts": 1}
    rows = run_peer(fake, policies, **options)
    job = json.loads((tmp_path / "job.json").read_text(encoding="utf-8"))
    assert job["policies"] == ["streaming"]  # the only one that kvpress has too
    assert len(job["contexts"][0]) == 128
    assert len(job["questions"]["multi"][0]) == 8
    (row,) = rows
    assert (row.each_key, row.mean, row.ms_per_step) == (0.75, 0.375, 2.5)
    assert row.memory == pytest.approx(65536 / (2 * 2 * 2 * 32 * 4 * 128))
    assert row.own_ms_per_step > 0
    ours = run_chains({"streaming": _streaming}, **options)
    page = render_html(kv_document(KvBench(128, 1, "none", ours, [], rows)))
    assert "Beside kvpress" in page
    assert "0.375" in page


def test_what_was_measured_before_an_interrupt_is_kept():
    policies = {"first": _streaming, "second": _streaming}
    asked = iter([False, True])
    rows = run_chains(
        policies, keeps=[0.5], length=128, num_contexts=1, stop_when=lambda: next(asked)
    )
    assert [row.policy for row in rows] == ["dense", "first"]
    page = render_html(kv_document(KvBench(128, 1, "none", rows, [], is_complete=False)))
    assert "interrupted before the end" in page


def test_a_budget_that_cannot_be_is_refused_before_any_work():
    with pytest.raises(ConfigError, match="budget of 2 tokens"):
        run_chains({"streaming": _streaming}, keeps=[0.5, 0.02], length=128, num_contexts=1)


def test_an_environment_without_kvpress_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="no working kvpress"):
        check_peer(sys.executable)
    with pytest.raises(ConfigError, match="cannot be run"):
        check_peer(tmp_path / "nothing")


def test_a_peer_that_fails_is_told(tmp_path):
    path = tmp_path / "python"
    path.write_text("#!/bin/sh\ncat >/dev/null\necho no memory >&2\nexit 3\n", encoding="utf-8")
    path.chmod(0o755)
    with pytest.raises(ConfigError, match="kvpress failed: no memory"):
        run_peer(path, {"knorm": _streaming}, keeps=[0.5], length=128, num_contexts=1)
