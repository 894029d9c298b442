"""`jeton bench`: compare the methods of a room on this machine."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from jeton.cli.common import check_page, plain_warnings, print_json, progress_for
from jeton.errors import ConfigError, UnknownMethodError

if TYPE_CHECKING:
    from jeton.kv.harness import Factory, KvBench, TextFigures

EPILOG = """
Examples:

  jeton bench kv --policies snapkv,tokenselect --keep 0.25 --contexts 2 --no-text --html kv.html
"""
_ROOMS = ("kv",)
_BASELINES = ("oracle", "random")


def register(app: typer.Typer) -> None:
    """Add the verb."""
    app.command(epilog=EPILOG)(bench)


def bench(
    room: str = typer.Argument(..., help="Whose methods; now: kv."),
    policies: str = typer.Option("all", help="Names joined by ',', or all."),
    keep: str = typer.Option("0.25,0.125", help="Parts of the context that are kept, by ','."),
    length: int = typer.Option(512, help="Tokens per context of key-value chains."),
    contexts: int = typer.Option(8, help="Contexts asked about."),
    seed: int = typer.Option(0, help="Of contexts and questions."),
    text: bool = typer.Option(True, help="Also real text under the starter model."),
    peer: Path | None = typer.Option(
        None, help="Python of an environment with kvpress, to be asked the same."
    ),
    html: Path | None = typer.Option(None, help="Write the page here."),
    as_json: bool = typer.Option(False, "--json", help="Print the result as one JSON document."),
    quiet: bool = typer.Option(False, "--quiet", "-q", help="No progress."),
) -> None:
    """Compare the cache policies: answers, bits, memory, time."""
    plain_warnings()
    if room not in _ROOMS:
        raise UnknownMethodError(f"there is no bench {room!r}", hint=f"take {', '.join(_ROOMS)}")
    check_page(html)
    keeps = _keeps(keep)
    factories = _factories(policies)
    from jeton.core.run import deferred_interrupt
    from jeton.kv.harness import KvBench, run_chains

    if peer is not None:
        from jeton.kv.peer import check_peer

        check_peer(peer)

    size: dict[str, Any] = {
        "keeps": keeps,
        "length": length,
        "num_contexts": contexts,
        "seed": seed,
    }
    with deferred_interrupt() as interrupt:
        watch: dict[str, Any] = {
            "progress": progress_for(quiet),
            "stop_when": lambda: interrupt.requested,
        }
        answers = run_chains(factories, **size, **watch)
        texts = _run_text(factories, keeps, watch) if text and not interrupt.requested else []
    theirs = []
    if peer is not None and not interrupt.requested:
        from jeton.kv.peer import run_peer

        theirs = run_peer(peer, factories, **size)
    done = not interrupt.requested
    result = KvBench(length, contexts, "starter", answers, texts, theirs, is_complete=done)
    _show(result, html=html, as_json=as_json)
    if not done:
        raise typer.Exit(130)


def _run_text(
    factories: "dict[str, Factory]", keeps: list[float], watch: dict[str, Any]
) -> "list[TextFigures]":
    """Return what the policies do to two texts under the starter model."""
    from jeton.kv.harness import run_text
    from jeton.lm.load import load_model

    lm = load_model("starter", dtype="float32")
    real = {name: make for name, make in factories.items() if name not in _BASELINES}
    return run_text(lm.model, _texts(lm), real, keeps=keeps, **watch)


def _keeps(given: str) -> list[float]:
    """Return the parts that `--keep` names."""
    try:
        keeps = [float(part) for part in given.split(",")]
    except ValueError:
        keeps = []
    if not keeps or not all(0 < part <= 1 for part in keeps):
        raise ConfigError(
            f"--keep takes parts in (0, 1] joined by ',', got {given!r}", hint="try 0.25,0.125"
        )
    return keeps


def _factories(names: str) -> "dict[str, Factory]":
    """Return what makes each policy, small windows for short contexts."""
    from jeton.kv.registry import POLICIES, create_policy

    every = [*POLICIES.names(), *_BASELINES]
    chosen = every if names.strip() == "all" else [name.strip() for name in names.split(",")]
    if not any(chosen):
        raise ConfigError("--policies names no policy", hint="try all, or snapkv,tokenselect")
    for name in chosen:
        if name not in _BASELINES:
            POLICIES.load(name)

    def factory(name: str) -> "Factory":
        def make(budget: int, contexts: Any) -> Any:
            small = {"sinks": min(4, budget // 16), "recent": max(budget // 8, 1)}
            if name in _BASELINES:
                return _baseline(name, budget, contexts)
            if name == "streaming":
                small["recent"] = 1
            if name == "page_bounds":
                small["page"] = 16 if budget >= 96 else 4
            return create_policy(name, budget=budget, options=small)

        return make

    return {name: factory(name) for name in chosen}


def _baseline(name: str, budget: int, contexts: Any) -> Any:
    from jeton.kv.harness import chain_model
    from jeton.testing.kv_baselines import Oracle, RandomRows, attention_of_questions

    if name == "random":
        return RandomRows(budget=budget, sinks=0, recent=max(budget // 16, 1))
    attention = attention_of_questions(chain_model(), contexts)
    return Oracle(budget=budget, sinks=0, recent=4, attention=attention)


def _texts(lm: Any) -> dict[str, tuple[list[int], int]]:
    """Return two texts for the starter model: prose as it comes, and the same knotted."""
    from jeton.kv.harness import knotted
    from jeton.starter import starter_path

    prose = (starter_path("starter").parent / "general.txt").read_text(encoding="utf-8")
    ids = lm.vocabulary.encode(prose)[:832]
    tied = knotted(ids, 64, 4)
    texts = {"prose": ids, "knots": tied}
    return {
        name: (found, len(lm.vocabulary.bytes_of(found[-64:]))) for name, found in texts.items()
    }


def _show(result: "KvBench", *, html: Path | None, as_json: bool) -> None:
    """Print the tables, or the document; write the page."""
    from jeton.report.kv_page import kv_document

    if html is not None:
        from jeton.core.run import write_atomically
        from jeton.report.html import render_html

        write_atomically(html, render_html(kv_document(result)))
    if as_json:
        print_json(result)
        return
    from rich.console import Console

    from jeton.report.terminal import render_terminal

    render_terminal(kv_document(result), Console())
    if html is not None:
        print(f"\nreport       {html}")
