"""`jeton tune-decoding`: try every way of decoding on a workload and write down the fastest."""

from pathlib import Path

import typer

from jeton.cli.common import plain_warnings, print_json, progress_for
from jeton.errors import ConfigError

EPILOG = """
Examples:

  jeton tune-decoding ./my-model --prompts prompts.jsonl

  jeton tune-decoding starter --prompts notes.md --out decoding.json
"""


def register(app: typer.Typer) -> None:
    """Add the verb."""
    app.command("tune-decoding", epilog=EPILOG)(tune_decoding)


def tune_decoding(
    model: str = typer.Argument(..., help="Folder or hub name of a causal LM, or 'starter'."),
    prompts: Path = typer.Option(
        ..., help="Workload: JSON lines of prompts (with answers, if known), or plain text."
    ),
    out: Path | None = typer.Option(
        None, help="Where the choice is written; default: beside the model's files, else here."
    ),
    drafters: str = typer.Option("", help="Only these, separated by commas; default: all."),
    lengths: str = typer.Option("8,16", help="Draft sizes to try, separated by commas."),
    draft_model: str = typer.Option("", help="For drafters that need a model."),
    store: str = typer.Option("", help="Datastore, for drafters that read one."),
    max_prompts: int = typer.Option(8, help="Most items of the workload that are used."),
    max_new_tokens: int = typer.Option(128, "--max-new-tokens", "-n", help="Decoded per item."),
    rounds: int = typer.Option(3, help="Times that everything is repeated."),
    dtype: str = typer.Option("auto", help="auto, float32 or bfloat16."),
    device: str = typer.Option("cpu", help="cpu or cuda."),
    threads: int = typer.Option(0, help="CPU threads; 0: torch's own choice."),
    as_json: bool = typer.Option(False, "--json", help="Print the result as one JSON document."),
    quiet: bool = typer.Option(False, "--quiet", "-q", help="No progress."),
) -> None:
    """Try what applies to this model, machine and workload; write the fastest way down."""
    plain_warnings()
    from jeton.decoding.tune import FILE_NAME, tune
    from jeton.decoding.workload import read_workload, record

    sizes = _numbers(lengths)
    names = [name.strip() for name in drafters.split(",") if name.strip()] or None
    _check(names)
    target = out or (Path(model) if Path(model).is_dir() else Path()) / FILE_NAME
    if max_prompts < 1:
        raise ConfigError(f"max_prompts must be at least 1, got {max_prompts}")
    items = read_workload(prompts, max_items=max_prompts)
    import torch

    from jeton.lm.load import load_model
    from jeton.lm.pack import packed

    if threads:
        torch.set_num_threads(threads)
    lm = load_model(model, dtype=dtype, device=device)
    draft = load_model(draft_model, dtype=dtype, device=device) if draft_model else None
    progress = progress_for(quiet or as_json)
    with packed(lm.model):
        progress.stage("recording the workload")
        found = tune(
            lm,
            record(lm, items, num_decoded_tokens=max_new_tokens),
            drafters=names,
            lengths=sizes,
            draft_model=draft,
            store=store,
            num_decoded_tokens=max_new_tokens,
            rounds=rounds,
            progress=progress,
        )
    found.save(target)
    if as_json:
        print_json({**_document(found), "written": str(target)})
        return
    _show(found)
    print(f"\nwritten to {target}; jeton generate {model} takes it", end="")
    print(" by itself" if target.parent == Path(model) else f" with --config {target}")


def _numbers(text: str) -> list[int]:
    """Return the numbers of a list."""
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isdigit() and int(part) for part in parts):
        raise ConfigError(f"--lengths takes numbers of 1 or more, such as 8,16; got {text!r}")
    return [int(part) for part in parts]


def _check(names: list[str] | None) -> None:
    """Refuse unknown drafters before anything is loaded."""
    from jeton.decoding.registry import DRAFTERS

    for name in names or []:
        for part in name.split("+"):
            DRAFTERS.load(part)


def _document(found: object) -> dict[str, object]:
    from jeton.core.run import to_json

    document: dict[str, object] = to_json(found)
    return document


def _show(found: object) -> None:
    from rich.console import Console

    from jeton.decoding.tune import Tuning
    from jeton.report.decoding_page import tuning_document
    from jeton.report.terminal import render_terminal

    assert isinstance(found, Tuning)
    render_terminal(tuning_document(found), Console())
