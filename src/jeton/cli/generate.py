"""`jeton generate`: continue a prompt, streaming, with or without a drafter."""

import codecs
import sys

import typer

from jeton.cli.common import options_of, parse_options, plain_warnings, print_json
from jeton.errors import ConfigError

EPILOG = """
Examples:

  jeton generate starter --prompt "def fib(n):"

  jeton generate ./model --prompt "Once" --drafter prompt_lookup --stats

  cat prompt.txt | jeton generate starter --prompt - --temperature 0.8 --seed 1
"""


def register(app: typer.Typer) -> None:
    """Add the verb."""
    app.command(epilog=EPILOG)(generate)


def generate(
    model: str = typer.Argument(..., help="Folder or hub name of a causal LM, or 'starter'."),
    prompt: str = typer.Option(..., "--prompt", "-p", help="Text; '-' reads stdin."),
    max_new_tokens: int = typer.Option(256, "--max-new-tokens", "-n", help="Most new tokens."),
    drafter: str = typer.Option("none", help="Name of a drafter, several joined by '+', or none."),
    options: list[str] = typer.Option(
        [], "--set", help="Field of the drafter: drafter.field=value; repeatable."
    ),
    num_draft_tokens: int = typer.Option(8, help="Most tokens per draft."),
    draft_model: str = typer.Option("", help="For drafters that need a model."),
    temperature: float = typer.Option(0.0, help="0 is greedy."),
    top_k: int = typer.Option(0, help="0 keeps all."),
    top_p: float = typer.Option(1.0, help="In (0, 1]."),
    min_p: float = typer.Option(0.0, help="In [0, 1)."),
    repetition_penalty: float = typer.Option(1.0, help="Above 0; 1 changes nothing."),
    seed: int = typer.Option(0, help="Of the sampling."),
    dtype: str = typer.Option("auto", help="auto, float32 or bfloat16."),
    device: str = typer.Option("cpu", help="cpu or cuda."),
    stats: bool = typer.Option(False, help="Print tokens per step and speed on stderr."),
    as_json: bool = typer.Option(False, "--json", help="Print the result as one JSON document."),
) -> None:
    """Continue a prompt; any drafter gives the same output as none, only faster."""
    plain_warnings()
    from jeton.decoding.contract import Sampling
    from jeton.decoding.create import create_drafter
    from jeton.decoding.generation import generate as run
    from jeton.decoding.prompt import stop_token_ids
    from jeton.decoding.registry import DRAFTERS

    sampling = Sampling(temperature, top_k, top_p, min_p, repetition_penalty, seed)
    chosen = None
    if drafter != "none":
        chosen = create_drafter(drafter)
        if options:
            chosen = DRAFTERS.create(drafter, options_of(drafter, parse_options(options)))
    data = sys.stdin.buffer.read() if prompt == "-" else prompt.encode()
    if not data:
        raise ConfigError("the prompt is empty", hint="give at least one byte with --prompt")
    from jeton.lm.load import load_model
    from jeton.lm.pack import packed

    lm = load_model(model, dtype=dtype, device=device)
    draft = load_model(draft_model, dtype=dtype, device=device) if draft_model else None
    stops = stop_token_ids(lm)
    decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")

    def stream(token_ids: tuple[int, ...]) -> None:
        spoken = [i for i in token_ids if i not in stops]
        sys.stdout.write(decoder.decode(lm.vocabulary.bytes_of(spoken)))
        sys.stdout.flush()

    if not as_json:
        sys.stdout.write(data.decode("utf-8", errors="replace"))
    with packed(lm.model):
        result = run(
            lm,
            data,
            max_new_tokens=max_new_tokens,
            drafter=chosen,
            sampling=sampling,
            num_draft_tokens=num_draft_tokens,
            draft_model=draft,
            on_tokens=None if as_json else stream,
        )
    if as_json:
        print_json({"schema_version": 1, "model": lm.name, "text": result.text, **_plain(result)})
        return
    sys.stdout.write(decoder.decode(b"", final=True) + "\n")
    if stats:
        figures = result.stats
        seconds = figures.verify_s + figures.draft_s
        speed = len(result.data) / seconds if seconds else 0.0
        print(
            f"{figures.num_tokens} tokens, {figures.tokens_per_step:.2f} per step, acceptance "
            f"{figures.acceptance_rate:.0%}, {speed:,.0f} bytes/s, ended by {result.finish_reason}",
            file=sys.stderr,
        )


def _plain(result: object) -> dict[str, object]:
    from jeton.core.run import to_json

    document: dict[str, object] = to_json(result)
    stats = result.stats  # type: ignore[attr-defined]
    document["tokens_per_step"] = stats.tokens_per_step
    document["acceptance_rate"] = stats.acceptance_rate
    del document["data"]
    return document
