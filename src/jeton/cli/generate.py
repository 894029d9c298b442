"""`jeton generate`: continue a prompt, streaming, with or without a drafter."""

import codecs
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from jeton.cli.common import options_of, parse_options, plain_warnings, print_json
from jeton.cli.kv import policy_of, runner_under
from jeton.errors import ConfigError

if TYPE_CHECKING:
    from jeton.decoding.contract import Sampling
    from jeton.decoding.tune import Tuning
    from jeton.kv.contract import CachePolicy
    from jeton.lm.cost import CostTable
    from jeton.lm.load import LanguageModel
    from jeton.report.decoding_page import GenerationReport

EPILOG = """
Examples:

  jeton generate starter --prompt "def fib(n):"

  jeton generate ./model --prompt "Once" --drafter lookahead+token_recycling --stats

  jeton generate starter --prompt "import os" --kv tokenselect --budget 1024

  jeton generate starter --prompt "import os, sy" --exact-prompt

  cat prompt.txt | jeton generate starter --prompt - --temperature 0.8 --seed 1

  jeton generate starter --prompt "import os" --drafter auto --html page.html
"""


def register(app: typer.Typer) -> None:
    """Add the verb."""
    app.command(epilog=EPILOG)(generate)


def generate(
    model: str = typer.Argument(..., help="Folder or hub name of a causal LM, or 'starter'."),
    prompt: str = typer.Option(..., "--prompt", "-p", help="Text; '-' reads stdin."),
    max_new_tokens: int = typer.Option(256, "--max-new-tokens", "-n", help="Most new tokens."),
    drafter: str = typer.Option(
        "", help="Name of a drafter, several joined by '+', auto, or none; default: the tuning's."
    ),
    verifier: str = typer.Option("", help="Name of a verifier; default: the lossless one."),
    options: list[str] = typer.Option(
        [], "--set", help="Field of drafter, verifier or policy: name.field=value; repeatable."
    ),
    num_draft_tokens: int = typer.Option(0, help="Most tokens per draft; 0: the tuning's, or 8."),
    draft_model: str = typer.Option("", help="For drafters that need a model."),
    config: Path | None = typer.Option(
        None, help="File of jeton tune-decoding; default: the one beside the model's files."
    ),
    kv: str = typer.Option("", help="Name of a cache policy; default: all context is attended."),
    budget: int = typer.Option(0, help="Context tokens of the cache policy; 0: its default."),
    prefill_chunk: int = typer.Option(512, min=1, help="Tokens of a prompt read at once."),
    stop: list[str] = typer.Option([], help="The text ends before this string; repeatable."),
    superpose: int = typer.Option(0, help="Write so many drafts in one pass; 0 writes one text."),
    temperature: float = typer.Option(0.0, help="0 is greedy."),
    top_k: int = typer.Option(0, help="0 keeps all."),
    top_p: float = typer.Option(1.0, help="In (0, 1]."),
    min_p: float = typer.Option(0.0, help="In [0, 1)."),
    repetition_penalty: float = typer.Option(1.0, help="Above 0; 1 changes nothing."),
    seed: int = typer.Option(0, help="Of the sampling."),
    dtype: str = typer.Option("auto", help="auto, float32 or bfloat16."),
    device: str = typer.Option("cpu", help="cpu or cuda."),
    exact_prompt: bool = typer.Option(
        False,
        help="Let the prompt end inside a token: draw how it is covered, then go on in tokens.",
    ),
    stats: bool = typer.Option(False, help="Print tokens per step and speed on stderr."),
    html: Path | None = typer.Option(None, help="Write a page about the generation here."),
    compare: bool = typer.Option(False, help="Also time generate of transformers on this prompt."),
    as_json: bool = typer.Option(False, "--json", help="Print the result as one JSON document."),
) -> None:
    """Continue a prompt; any drafter gives the same output as none, only faster."""
    plain_warnings()
    from jeton.decoding.contract import Sampling
    from jeton.decoding.stops import StopStrings

    sampling = Sampling(temperature, top_k, top_p, min_p, repetition_penalty, seed)
    tuning = _tuning(model, config) if config or not drafter else None
    if tuning is not None and not drafter:
        drafter = tuning.best.drafter
        num_draft_tokens = num_draft_tokens or tuning.best.num_draft_tokens
        draft_model = draft_model or tuning.draft_model
    drafter = drafter or "none"
    given = parse_options(options)
    of_kv = {key: given.pop(key) for key in list(given) if key.partition(".")[0] == kv}
    policy = policy_of(kv, budget, of_kv)
    of_drafter, of_verifier = _options(drafter, verifier, given)
    if tuning is not None and tuning.store and "rest" in drafter.split("+"):
        of_drafter.setdefault("store", tuning.store)
    data = sys.stdin.buffer.read() if prompt == "-" else prompt.encode()
    if not data:
        raise ConfigError("the prompt is empty", hint="give at least one byte with --prompt")
    StopStrings(stop)  # refused before a model is loaded
    _check(drafter, verifier, superpose, is_plain=sampling == Sampling(seed=seed) and not stop)
    from jeton.lm.load import load_model

    lm = load_model(model, dtype=dtype, device=device)
    if superpose:
        if policy is not None:
            raise ConfigError("superposed drafts take no cache policy", hint="leave out --kv")
        _superpose(lm, data, superpose, max_new_tokens, as_json=as_json)
        return
    draft = load_model(draft_model, dtype=dtype, device=device) if draft_model else None
    prompt_ids, overhang = None, b""
    if exact_prompt:
        prompt_ids, overhang = _cover(lm, data, sampling)
    report = _run(
        lm,
        data + overhang,
        prompt_ids=prompt_ids,
        compare=compare,
        is_streamed=not as_json,
        drafter=drafter,
        verifier=verifier,
        of_drafter=of_drafter,
        of_verifier=of_verifier,
        cost=tuning.cost if tuning is not None else None,
        policy=policy,
        prefill_chunk=prefill_chunk,
        max_new_tokens=max_new_tokens,
        sampling=sampling,
        num_draft_tokens=num_draft_tokens or 8,
        draft_model=draft,
        stop_strings=stop,
    )
    if html is not None:
        from jeton.core.run import write_atomically
        from jeton.report.decoding_page import generation_document
        from jeton.report.html import render_html

        write_atomically(html, render_html(generation_document(report)))
    if as_json:
        print_json({**_document(report), "overhang": overhang.decode("utf-8", errors="replace")})
    if stats:
        _print_stats(report)
    if report.generation.finish_reason == "interrupted":
        raise typer.Exit(130)


def _tuning(model: str, config: Path | None) -> "Tuning | None":
    """Return the tuning that was named, or the one beside the model's files."""
    from jeton.decoding.tune import FILE_NAME, Tuning

    beside = Path(model) / FILE_NAME
    if config is None and not beside.is_file():
        return None
    return Tuning.load(config or beside)


def _options(
    drafter: str, verifier: str, given: dict[str, str]
) -> tuple[dict[str, str], dict[str, str]]:
    """Return the fields of `--set` for the drafter and for the verifier."""
    name = "merge" if "+" in drafter else drafter
    own = {key: value for key, value in given.items() if key.partition(".")[0] == verifier}
    rest = {key: value for key, value in given.items() if key not in own}
    return options_of(name, rest), options_of(verifier, own)


def _check(drafter: str, verifier: str, superpose: int, *, is_plain: bool) -> None:
    """Refuse unknown names before a model is loaded."""
    from jeton.decoding.registry import DRAFTERS, VERIFIERS

    for name in drafter.split("+") if drafter != "none" else ():
        DRAFTERS.load(name)
    if verifier:
        VERIFIERS.load(verifier)
    if superpose < 0:
        raise ConfigError(f"superpose must be 1 or more, got {superpose}")
    if superpose and (drafter != "none" or verifier or not is_plain):
        raise ConfigError(
            "superposed drafts take no drafter, verifier, stop strings or sampling",
            hint="leave these options out, or leave out --superpose",
        )


def _superpose(
    lm: "LanguageModel", data: bytes, num_drafts: int, max_new_tokens: int, *, as_json: bool
) -> None:
    """Print several drafts of one pass."""
    from jeton.decoding.superposed import superposed

    drafts = superposed(lm, data, num_drafts=num_drafts, max_new_tokens=max_new_tokens)
    if as_json:
        rows = [{"text": d.text, "logprob": d.logprob, "token_ids": d.token_ids} for d in drafts]
        print_json({"schema_version": 1, "model": lm.name, "drafts": rows})
        return
    for number, draft in enumerate(drafts, start=1):
        print(f"{number}  {draft.logprob:8.2f}  {draft.text}")


def _cover(lm: "LanguageModel", data: bytes, sampling: "Sampling") -> tuple[list[int], bytes]:
    """Return the tokens that a prompt is covered with, and the bytes that stick out behind it."""
    from jeton.bytelm.complete import draw_cover
    from jeton.decoding.prompt import start_token_ids

    cover = draw_cover(
        lm,
        data,
        temperature=sampling.temperature,
        seed=sampling.seed,
        start_ids=start_token_ids(lm),
    )
    return cover.token_ids, cover.overhang


def _run(
    lm: "LanguageModel",
    data: bytes,
    *,
    prompt_ids: list[int] | None,
    compare: bool,
    is_streamed: bool,
    drafter: str,
    verifier: str,
    of_drafter: dict[str, str],
    of_verifier: dict[str, str],
    cost: "CostTable | None",
    policy: "CachePolicy | None",
    prefill_chunk: int,
    **options: Any,
) -> "GenerationReport":
    """Generate with a record of the steps; Ctrl-C ends the text after the step it falls in."""
    from jeton.core.run import deferred_interrupt
    from jeton.decoding.create import (
        create_drafter,
        create_verifier,
        default_verifier,
        source_names,
    )
    from jeton.decoding.generation import generate as decode
    from jeton.decoding.trace import Trace
    from jeton.lm.cost import measure_cost
    from jeton.lm.pack import packed
    from jeton.report.decoding_page import GenerationReport

    sampling = options["sampling"]
    with (
        packed(lm.model, lean=policy is None),
        runner_under(lm, policy, chunk=prefill_chunk) as runner,
        deferred_interrupt() as interrupt,
    ):
        stream = _Stream(data) if is_streamed else None  # the policy has refused what it must
        if drafter == "auto" and cost is None:
            cost = measure_cost(lm.model, (1, 4, 8, 16), repeats=3)
        chosen = None if drafter == "none" else create_drafter(drafter, of_drafter, cost=cost)
        judge = (
            create_verifier(verifier, sampling, of_verifier)
            if verifier
            else default_verifier(sampling)
        )
        trace = Trace(source_names(drafter, chosen), draws=judge.draws if chosen else "")
        result = decode(
            lm,
            prompt_ids or data,
            drafter=chosen,
            verifier=judge,
            cost=cost,
            on_data=stream.write if stream else None,
            stop_when=lambda: interrupt.requested,
            watch=trace,
            runner=runner,
            **options,
        )
    if stream:
        stream.close()
    spoken = result.token_ids[:-1] if result.finish_reason == "stop" else result.token_ids
    figures = result.stats
    return GenerationReport(
        model=lm.name,
        prompt=data,
        tokens=[lm.vocabulary.bytes_of([token_id]) for token_id in spoken],
        generation=result,
        trace=trace,
        drafter=drafter,
        verifier=verifier or ("greedy" if sampling.temperature == 0 else "seed_exact"),
        settings=f"{_words(sampling)}, {str(lm.model.dtype).removeprefix('torch.')}, {lm.device}",
        seconds=figures.verify_s + figures.draft_s,
        reference_bytes_per_second=_reference(lm, data, len(spoken)) if compare else None,
    )


class _Stream:
    """Writes bytes on stdout as they settle; a character cut in half waits for the rest."""

    def __init__(self, prompt: bytes) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
        self._say(prompt.decode("utf-8", errors="replace"))

    def write(self, data: bytes) -> None:
        """Show what is whole."""
        self._say(self._decoder.decode(data))

    def close(self) -> None:
        """Show the rest and end the line."""
        self._say(self._decoder.decode(b"", final=True) + "\n")

    def _say(self, text: str) -> None:
        sys.stdout.write(text)
        sys.stdout.flush()


def _words(sampling: "Sampling") -> str:
    if sampling.temperature == 0:
        return "greedy"
    return f"temperature {sampling.temperature:g}, seed {sampling.seed}"


def _reference(lm: "LanguageModel", data: bytes, num_tokens: int) -> float | None:
    """Return the bytes per second of transformers' greedy generate after the same prompt."""
    from jeton.adapters.transformers import time_generate
    from jeton.decoding.prompt import prompt_ids

    return time_generate(lm, prompt_ids(lm, data), num_tokens) if num_tokens > 1 else None


def _print_stats(report: "GenerationReport") -> None:
    figures = report.generation.stats
    words = [
        f"{figures.num_tokens} tokens",
        f"{figures.tokens_per_step:.2f} per step",
        f"acceptance {figures.acceptance_rate:.0%}",
        f"{report.bytes_per_second:,.0f} bytes/s",
        f"ended by {report.generation.finish_reason}",
    ]
    if report.trace.acceptance is not None:
        words.append(
            f"a draft kept at {report.trace.acceptance:.1%} of the levels, "
            f"optimum {report.trace.optimal_acceptance:.1%}"
        )
    if report.reference_bytes_per_second:
        words.append(f"generate of transformers {report.reference_bytes_per_second:,.0f} bytes/s")
    print(", ".join(words), file=sys.stderr)


def _document(report: "GenerationReport") -> dict[str, object]:
    from jeton.core.run import to_json

    result = report.generation
    document: dict[str, object] = {"schema_version": 1, "model": report.model, "text": result.text}
    document |= to_json(result)
    del document["data"]
    return document | {
        "drafter": report.drafter,
        "verifier": report.verifier,
        "tokens_per_step": result.stats.tokens_per_step,
        "acceptance_rate": result.stats.acceptance_rate,
        "bytes_per_second": report.bytes_per_second,
        "reference_bytes_per_second": report.reference_bytes_per_second,
        "level_acceptance": report.trace.acceptance,
        "optimal_level_acceptance": report.trace.optimal_acceptance,
    }
