"""Bench of the bytelm room: exactness, speed beside genlm-bytes, prompts cut inside tokens.

python bench/bytelm.py [--json] [--quick] [--data FOLDER] [--peer PYTHON]

Speeds are bytes per CPU second of one thread. Models of published vocabularies are tiny seeded
Llamas. The peer, genlm-bytes 0.2.0, runs in an environment of its own (`make bench-bytelm` builds
it, or --peer names its Python) on the same weights and the same text. Rows that need the data
beside the checkout, or the peer, are null without them.
"""

import argparse
import json
import math
import os
import platform
import random
import statistics
import subprocess
import sys
import tempfile
import time
import tracemalloc
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from jeton.bytelm.byte_lm import ByteLM
from jeton.bytelm.contract import END
from jeton.bytelm.lexicon import Lexicon
from jeton.bytelm.score import score
from jeton.core.vocabulary import Vocabulary, load_vocabulary
from jeton.errors import EncodingError
from jeton.lm.load import LanguageModel, load_model
from jeton.starter import general_text_path, library_files
from jeton.testing.bytelm import BruteForce, TableLM, all_texts, toy_vocabulary
from jeton.testing.models import tiny_model

ROOT = Path(__file__).resolve().parents[1]
GOLDEN = ROOT / "tests" / "golden" / "bytelm" / "worked_example.json"
PEER_SCRIPT = Path(__file__).with_name("bytelm_peer.py")
SLOW_TOKENIZERS = ("bert-base-uncased",)  # probed: minutes for each text
clock = time.thread_time
Row = dict[str, Any]


def goal(name: str, asked: str, measured: float | None, unit: str, holds: bool | None) -> Row:
    """Return one row of the table of goals."""
    found = None if measured is None else float(measured)
    held = None if holds is None else bool(holds)
    return {"name": name, "goal": asked, "measured": found, "unit": unit, "holds": held}


def bounded(name: str, unit: str, limit: float, measured: float | None, least: bool = False) -> Row:
    """Return a row with a limit from above, or from below with `least`."""
    sign = ">=" if least else "<="
    holds = None if measured is None else measured >= limit if least else measured <= limit
    return goal(name, f"{sign} {limit:g}", measured, unit, holds)


def brute_force_error() -> float:
    """Return the largest error over random toy vocabularies and all short texts."""
    worst = 0.0
    for seed in range(4):
        rng = random.Random(seed)
        tokens, merges = ["a", "b"], []
        while len(tokens) < 6:
            pair = (rng.choice(tokens), rng.choice(tokens))
            if "".join(pair) not in tokens:
                merges.append(pair)
                tokens.append("".join(pair))
        table = np.random.default_rng(seed).dirichlet(np.ones(7), size=8)
        law = lambda path, table=table: table[path[-1] if path else -1]  # noqa: E731
        vocabulary = toy_vocabulary(tokens, merges)
        for measure in ("canonical", "all"):
            brute = BruteForce(vocabulary, law, is_canonical=measure == "canonical")
            start = ByteLM(
                TableLM(law), vocabulary, measure, epsilon=0.0, max_stems=4096, start_ids=[]
            ).state()
            for text in all_texts(b"ab", 4):
                state = start.advance(text)
                end = state.logprob + float(state.next_logprobs()[END])
                worst = max(
                    worst,
                    abs(math.exp(state.logprob) - brute.prefix(text)),
                    abs(math.exp(end) - brute.whole(text)),
                )
    return worst


def golden_error() -> float:
    """Return the largest error against the worked example."""
    golden = json.loads(GOLDEN.read_text())
    vocabulary = toy_vocabulary(golden["tokens"], [tuple(m) for m in golden["merges"]])
    law = TableLM(lambda path: golden["probabilities"])
    worst = 0.0
    for measure, rows in golden["expected"].items():
        start = ByteLM(law, vocabulary, measure, epsilon=0.0, start_ids=[]).state()
        for asked, expected in rows.items():
            target, _, given = asked.partition("|")
            before = start.advance(given.encode())
            after = before.advance(target.rstrip("$").encode())
            end = float(after.next_logprobs()[END]) if target.endswith("$") else 0.0
            worst = max(worst, abs(math.exp(after.logprob + end - before.logprob) - expected))
    return worst


def likelihood_error(byte_lm: ByteLM, data: bytes) -> float:
    """Return how far P(text and end) is from the masked likelihood of its tokens, nats."""
    rule, vocabulary = byte_lm.rule, byte_lm.vocabulary
    asked = [*vocabulary.encode(data), int(byte_lm.settings.lexicon.eos_ids[0])]
    ids = torch.tensor([[*byte_lm.start_ids, *asked[:-1]]])
    with torch.inference_mode():
        logits = byte_lm.token_lm.runner.model(input_ids=ids).logits[0].double().numpy()
    state, total, size = rule.start(), 0.0, vocabulary.vocab_size
    for row, token_id in zip(logits[len(byte_lm.start_ids) - 1 :, :size], asked, strict=True):
        bits, may_end = rule.mask(state)
        mask = np.unpackbits(bits, count=size).astype(bool)
        mask[byte_lm.settings.lexicon.eos_ids] = may_end
        if total == 0.0 and byte_lm.settings.lexicon.strips_space:  # the dummy space comes first
            mask &= [token[:1] == b" " for token in vocabulary.tokens]
        total += float(row[token_id] - np.logaddexp.reduce(row[mask]))
        state = rule.step(state, token_id)
    return abs(score(byte_lm, data).string_logprob - total)


def median_seconds(run: Callable[[], Any], repeats: int) -> float:
    """Return the median CPU time of one thread, after one warm run."""
    run()
    times = []
    for _ in range(repeats):
        start = clock()
        run()
        times.append(clock() - start)
    return statistics.median(times)


def token_forward(lm: LanguageModel, data: bytes) -> None:
    """Read a text's tokens and take the logprob of each, as any token-level scorer does."""
    ids = lm.vocabulary.encode(data)
    start = lm.vocabulary.bos_token_id or 0
    with torch.inference_mode():
        logits = lm.model(input_ids=torch.tensor([[start, *ids[:-1]]])).logits[0]
        logits.float().log_softmax(dim=-1).gather(1, torch.tensor(ids)[:, None]).sum().item()


def incremental(byte_lm: ByteLM, data: bytes) -> float:
    """Return the bits per byte, taken byte after byte."""
    state, total = byte_lm.state(), 0.0
    for byte in data:
        total -= float(state.next_logprobs()[byte])
        state = state.advance(byte)
    return total / len(data) / math.log(2)


def tiny(vocabulary: Vocabulary) -> LanguageModel:
    """Return a tiny seeded Llama over a vocabulary."""
    model = tiny_model(
        "llama",
        vocab_size=vocabulary.vocab_size,
        hidden_size=64,
        intermediate_size=128,
        max_position_embeddings=4096,
    )
    return LanguageModel(model, None, vocabulary, f"tiny Llama over {vocabulary.name}")


def cut_prompts(lm: LanguageModel, texts: list[bytes], count: int) -> dict[str, float]:
    """Return mean bits of the next byte at whole-token cuts, and at random cuts three ways."""
    byte_lm, vocabulary, rng = ByteLM(lm), lm.vocabulary, random.Random(0)
    lexicon = Lexicon(vocabulary)
    bits: dict[str, list[float]] = {"naive": [], "healing": [], "exact": [], "whole": []}
    for text in texts:
        result = score(byte_lm, text)
        ends = vocabulary.token_offsets(vocabulary.encode(text)).tolist()
        whole = [e for e in ends if 20 <= e < len(text) - 1]
        bits["whole"] += (-result.logprobs[whole] / math.log(2)).tolist()
        for cut in sorted(rng.sample(range(20, len(text) - 1), count)):
            prompt, byte = vocabulary.encode(text[:cut]), text[cut]
            last = vocabulary.tokens[prompt[-1]]
            exact = float(byte_lm.state(text[:cut]).next_logprobs()[byte])
            bits["naive"].append(-_first_byte(lm, prompt, b"", byte, lexicon))
            bits["healing"].append(-_healed(lm, prompt, last, byte, lexicon))
            bits["exact"].append(-exact / math.log(2))
    return {way: float(np.mean(values)) for way, values in bits.items()}


def _healed(lm: LanguageModel, ids: list[int], held: bytes, byte: int, lex: Lexicon) -> float:
    """Return log2 P(next byte) when the last token is taken back and must be written again."""
    longer, same = _held(lm, ids[:-1], held, byte, lex)
    return float(np.log2(max(longer + same * 2.0 ** _first_byte(lm, ids, b"", byte, lex), 1e-12)))


def _held(
    lm: LanguageModel, ids: list[int], held: bytes, byte: int, lex: Lexicon
) -> tuple[float, float]:
    """Return the shares of tokens that go on with the byte, and of the held token itself."""
    with torch.inference_mode():
        start = lm.vocabulary.bos_token_id or 0
        logits = lm.model(input_ids=torch.tensor([[start, *ids]])).logits[0, -1].double()
    p, tokens = logits.softmax(dim=-1).numpy(), lm.vocabulary.tokens
    fits = [i for i in lex.ids.tolist() if tokens[i].startswith(held)]
    base = float(p[fits].sum())
    longer = float(p[[i for i in fits if tokens[i].startswith(held + bytes([byte]))]].sum())
    return longer / base, float(p[[i for i in fits if tokens[i] == held]].sum()) / base


def _first_byte(lm: LanguageModel, ids: list[int], held: bytes, byte: int, lex: Lexicon) -> float:
    """Return log2 P(next byte) of the next token behind a prompt."""
    return float(np.log2(max(_held(lm, ids, held, byte, lex)[0], 1e-12)))


def index_cost(vocabulary: Vocabulary) -> tuple[float, float]:
    """Return seconds and megabytes of the index of a vocabulary."""
    _ = vocabulary.lengths
    start = clock()
    lexicon = Lexicon(vocabulary)
    seconds = clock() - start
    del lexicon
    tracemalloc.start()
    lexicon = Lexicon(vocabulary)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    del lexicon
    return seconds, peak / 1e6


def lost_texts(folder: Path, texts: list[bytes]) -> tuple[int, int]:
    """Return how many expressible texts have no probability, and how many were tried."""
    lost = tried = 0
    for path in sorted(p for p in folder.iterdir() if p.is_dir()):
        if path.name in SLOW_TOKENIZERS:
            continue
        vocabulary = load_vocabulary(path)
        byte_lm = ByteLM(tiny(vocabulary))
        for text in texts:
            try:
                vocabulary.encode(text)
            except EncodingError:
                continue
            tried += 1
            result = score(byte_lm, text)
            has_end = len(byte_lm.settings.lexicon.eos_ids) > 0
            fine = np.isfinite(result.logprobs).all()
            lost += not (fine and (not has_end or math.isfinite(result.end_logprob)))
    return lost, tried


def ask_peer(python: str, lm: LanguageModel, folder: Path, data: bytes) -> dict[str, float] | None:
    """Return the peer's figures on the same weights and text, None when it fails."""
    with tempfile.TemporaryDirectory() as made:
        lm.model.save_pretrained(made)
        for file in folder.iterdir():
            if file.name.startswith(("tokenizer", "special_tokens", "vocab", "merges")):
                (Path(made) / file.name).write_bytes(file.read_bytes())
        config = Path(made) / "tokenizer_config.json"
        if not config.is_file():
            config.write_text('{"tokenizer_class": "PreTrainedTokenizerFast"}')
        (Path(made) / "text.bin").write_bytes(data)
        environment = {**os.environ, "PYTHONPATH": "", "OMP_NUM_THREADS": "1"}
        try:
            found = subprocess.run(
                [python, str(PEER_SCRIPT), made],
                capture_output=True,
                env=environment,
                timeout=240,
                check=True,
            )
        except (subprocess.SubprocessError, OSError) as error:
            detail = getattr(error, "stderr", b"") or b""
            print(f"peer: {error}\n{detail.decode()[-1500:]}", file=sys.stderr)
            return None
    result: dict[str, float] = json.loads(found.stdout.decode().strip().splitlines()[-1])
    return result


def speed_rows(args: argparse.Namespace, prose: bytes) -> tuple[list[Row], dict[str, Any]]:
    """Return the rows of speed, and the figures behind them."""
    rows: list[Row] = []
    figures: dict[str, Any] = {}
    tokenizers = args.data / "tokenizers"
    cases = [("4k", "kl3m-004-char-4k-cased", 100, 15), ("50k", "gpt2", 150, 40)]
    for label, name, least_score, least_step in cases:
        found: dict[str, float | None] = dict.fromkeys(("score", "token", "step", "p_s", "p_i"))
        if (tokenizers / name).is_dir() and not (args.quick and label == "50k"):
            lm = tiny(load_vocabulary(tokenizers / name))
            byte_lm = ByteLM(lm)
            text = prose[: 800 if args.quick else 1600]
            seconds = median_seconds(lambda: score(byte_lm, text), 3)  # noqa: B023
            tokens = median_seconds(lambda: token_forward(lm, text), 3)  # noqa: B023
            part = text[:80]
            fresh = [ByteLM(lm) for _ in range(3)]  # a second walk would find its rows kept
            for one in fresh:
                _ = one.rule
            steps = median_seconds(lambda: incremental(fresh.pop(), part), 2)  # noqa: B023
            found |= {"score": len(text) / seconds, "token": len(text) / tokens}
            found["step"] = len(part) / steps
            found["bits"] = score(byte_lm, part).bits_per_byte
            if args.peer and not args.quick:
                peer = ask_peer(args.peer, lm, tokenizers / name, part[:24])
                if peer:
                    figures[f"peer {label}"] = peer
                    own = score(byte_lm, part[:24]).bits_per_byte
                    peer["own_bits_per_byte"] = own
                    found["p_s"] = found["score"] / peer["bytes_per_second"]
                    found["p_i"] = found["step"] / peer["bytes_per_second"]
        figures[label] = found
        rows.append(
            bounded(f"score against genlm-bytes, {label}", "x", least_score, found["p_s"], True)
        )
        rows.append(
            bounded(f"next byte against genlm-bytes, {label}", "x", least_step, found["p_i"], True)
        )
        ratio = found["token"] / found["score"] if found["score"] and found["token"] else None
        rows.append(bounded(f"score against a token forward, {label}", "x", 4.0, ratio))
    return rows, figures


def story_rows(args: argparse.Namespace) -> tuple[list[Row], dict[str, Any]]:
    """Return the rows of stories260k."""
    path = args.data / "models" / "stories260k"
    if not path.is_dir():
        names = ("P(text and end) is the token likelihood", "cut prompts, exact less whole cuts")
        return [goal(name, "", None, "", None) for name in names], {}
    lm = load_model(path, dtype="float32")
    byte_lm = ByteLM(lm)
    torch.manual_seed(0)
    stories = [
        lm.vocabulary.decode(row[1:].tolist())
        for row in lm.model.generate(
            torch.tensor([[1, *lm.vocabulary.encode(b"Once upon a time")]] * 4),
            max_new_tokens=120 if args.quick else 400,
            do_sample=True,
            top_k=0,
            pad_token_id=2,
            eos_token_id=[],
        )
    ]
    story = stories[0]
    error = likelihood_error(byte_lm, story[:100])
    means = cut_prompts(lm, stories, 12 if args.quick else 45)
    text = story[:600]
    seconds = median_seconds(lambda: score(byte_lm, text), 3)
    tokens = median_seconds(lambda: token_forward(lm, text), 3)
    speed = {"score": len(text) / seconds, "token": len(text) / tokens}
    rows = [
        bounded("P(text and end) is the token likelihood, 100 bytes", "nats", 1e-4, error),
        bounded(
            "cut prompts, exact less whole cuts", "bits", 0.02, means["exact"] - means["whole"]
        ),
        bounded("score against a token forward, 512", "x", 4.0, seconds / tokens),
    ]
    return rows, {"cut prompts, bits of the next byte": means, "stories260k": speed}


def node_rows(args: argparse.Namespace, prose: bytes, code: bytes) -> list[Row]:
    """Return nodes per byte over the starter's vocabulary, or that of GPT-2."""
    folder = args.data / "tokenizers" / "gpt2"
    vocabulary = load_vocabulary(folder) if folder.is_dir() else load_model("starter").vocabulary
    byte_lm = ByteLM(tiny(vocabulary))
    size = 3000 if args.quick else 20_000
    rows = []
    for name, data, limit in (("prose", prose, 1.05), ("code", code, 1.15)):
        growth = byte_lm.grow(byte_lm.read_context(b"")[0], data[:size])
        nodes = len(growth.nodes) / len(growth.data)
        rows.append(bounded(f"nodes per byte, {name}", "nodes", limit, nodes))
    return rows


def index_rows(args: argparse.Namespace) -> tuple[list[Row], dict[str, float]]:
    """Return the rows of the index of o200k; the peer's figures are from the notes of its run."""
    folder = args.data / "tokenizers" / "o200k_base"
    if args.quick or not folder.is_dir():
        speed, memory = "speed (peer recorded)", "memory (peer recorded)"
        return [
            goal(f"index of o200k, {speed}", ">= 25", None, "x", None),
            goal(f"index of o200k, {memory}", "<= 0.1", None, "share", None),
        ], {}
    seconds, megabytes = index_cost(load_vocabulary(folder))
    peer_s, peer_mb = 11.3, 1100.0  # genlm-bytes 0.2.0 on this machine, recorded
    return [
        bounded("index of o200k, speed (peer recorded)", "x", 25.0, peer_s / seconds, True),
        bounded("index of o200k, memory (peer recorded)", "share", 0.1, megabytes / peer_mb),
    ], {"seconds": seconds, "megabytes": megabytes}


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Measure everything and return the document."""
    torch.set_num_threads(1)
    prose = general_text_path().read_bytes()
    code = b"\n".join(p.read_bytes() for _, p in sorted(library_files().items())[:12])
    rows = [
        bounded("brute force over all tokenizations, float64", "", 1e-9, brute_force_error()),
        bounded("golden table", "", 1e-6, golden_error()),
    ]
    story, figures = story_rows(args)
    rows += story
    speeds, more = speed_rows(args, prose)
    rows += speeds
    figures |= more
    rows += node_rows(args, prose, code)
    index, cost = index_rows(args)
    rows += index
    figures["index of o200k"] = cost
    tokenizers = args.data / "tokenizers"
    lost = tried = None
    if tokenizers.is_dir() and not args.quick:
        texts = [prose[:120], code[:120], "naïve 你好, мир! 🦙\n\n\tdef f(x): 12345".encode()]
        texts += [b"it's", b"plain words", b"\xff\xc3 stray"]
        lost, tried = lost_texts(tokenizers, texts)
    figures["texts tried over all tokenizers"] = tried
    rows.append(
        goal("texts without probability", "0", lost, "texts", None if lost is None else lost == 0)
    )
    return {
        "schema_version": 1,
        "machine": f"{platform.processor() or platform.machine()}, 1 thread",
        "goals": rows,
        "figures": figures,
    }


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", action="store_true", help="print one document")
    parser.add_argument("--quick", action="store_true", help="within a minute")
    parser.add_argument("--data", type=Path, default=ROOT.parent / "shared" / "data")
    parser.add_argument("--peer", default=os.environ.get("GENLM_PYTHON", ""))
    warnings.simplefilter("ignore")
    args = parser.parse_args()
    document = run(args)
    if args.json:
        print(json.dumps(document, indent=2))
        return
    for row in document["goals"]:
        held = {True: "holds", False: "FAILS", None: "not measured"}[row["holds"]]
        shown = "-" if row["measured"] is None else f"{row['measured']:.4g}"
        print(f"{row['name']:48} {row['goal']:>10} {shown:>12} {row['unit']:6} {held}")
    print(json.dumps(document["figures"], indent=2))


if __name__ == "__main__":
    main()
