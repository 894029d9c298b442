"""`jeton bench kv`: what it refuses before any work, and one document for all its tables."""

import itertools
import json

import pytest

from jeton.cli.app import main
from jeton.errors import ConfigError
from jeton.kv.harness import draw_contexts
from jeton.kv.tasks import FAMILIES


def run(monkeypatch, *arguments):
    monkeypatch.setattr("sys.argv", ["jeton", "bench", "kv", *arguments])
    with pytest.raises(SystemExit) as ended:
        main()
    return ended.value.code


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--policies", ""], "names no policy"),
        (["--policies", "snapvk"], "did you mean snapkv"),
        (["--keep", "2"], "parts in (0, 1]"),
        (["--html", "nowhere/kv.html"], "there is no folder nowhere"),
        (["--html", "."], "is a folder"),
        (["--policies", "knorm", "--length", "513"], "up to 512"),
        (["--policies", "knorm", "--length", "100"], "do not fit"),
        (["--policies", "knorm", "--contexts", "0"], "at least 1 context"),
    ],
)
def test_bad_input_is_refused_before_any_work(arguments, message, monkeypatch, capsys, tmp_path):
    monkeypatch.chdir(tmp_path)
    assert run(monkeypatch, "--no-text", "-q", *arguments) == 2
    assert message in capsys.readouterr().err


def test_one_document_holds_every_family(monkeypatch, capsys):
    options = ["--keep", "0.5", "--length", "128", "--contexts", "1", "--no-text", "-q", "--json"]
    monkeypatch.setattr(
        "sys.argv", ["jeton", "bench", "kv", "--policies", "knorm, oracle", *options]
    )
    main()
    document = json.loads(capsys.readouterr().out)
    assert [row["policy"] for row in document["answers"]] == ["dense", "knorm", "oracle"]
    assert all(set(row["accuracy"]) == set(FAMILIES) for row in document["answers"])
    assert document["is_complete"]


def test_pairs_of_a_context_stand_apart():
    (context,) = draw_contexts(1, 128)
    places = sorted(context.places.values())
    assert min(later - place for place, later in itertools.pairwise(places)) >= 4
    with pytest.raises(ConfigError, match="chains"):
        draw_contexts(1, 121)
