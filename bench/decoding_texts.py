"""Recorded texts for the bench of the decoding room, and the side of transformers."""

import ast
import json
import re
import time
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from jeton.decoding.store import Datastore
from jeton.lm.load import LanguageModel
from jeton.starter import general_text_path, library_bucket, library_files

NUM_PROMPT, NUM_DECODED = 384, 128
TASKS = ("code", "docs", "prose", "edit", "chat")
SHARED = Path(__file__).resolve().parents[2] / "shared" / "data"
clock = time.thread_time


@dataclass(frozen=True)
class Recording:
    """A text, cut into prompt and what is decoded."""

    task: str
    token_ids: list[int]
    num_prompt: int


def held_out_code() -> list[str]:
    """Return library files that neither the starter model nor a store has seen."""
    files = [path for name, path in library_files().items() if library_bucket(name) == 0]
    texts = [path.read_text(encoding="utf-8") for path in files]
    return [text for text in texts if 6000 < len(text) < 40000]


def docstrings(text: str) -> Iterator[str]:
    """Yield the longer docstrings of a file."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            tree = ast.parse(text)
    except SyntaxError:
        return
    kinds = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    for node in ast.walk(tree):
        found = ast.get_docstring(node) if isinstance(node, kinds) else None
        if found and len(found) > 200:
            yield found + "\n\n"


def recordings(lm: LanguageModel, per_task: int) -> list[Recording]:
    """Return texts of five kinds that the starter model has not seen."""
    encode = lm.vocabulary.encode
    wanted = NUM_PROMPT + NUM_DECODED
    code = held_out_code()
    step = max(1, len(code) // per_task)
    found: list[Recording] = []
    for text in code[::step][:per_task]:
        ids = encode(text[len(text) // 3 :][:6000])[:wanted]
        found.append(Recording("code", ids, NUM_PROMPT))
    docs = encode("".join(doc for text in code for doc in docstrings(text))[:60_000])
    prose = encode(general_text_path().read_text(encoding="utf-8"))
    for task, ids in (("docs", docs), ("prose", prose)):
        for index in range(per_task):
            start = index * max(1, (len(ids) - wanted) // per_task)
            found.append(Recording(task, ids[start : start + wanted], NUM_PROMPT))
    for text in code[1::step][:per_task]:
        before = text[len(text) // 2 :][:700]
        after = before
        for word in sorted(set(re.findall(r"[a-z_]{4,}", before)))[::4]:
            after = re.sub(rf"\b{word}\b", f"{word}_new", after)
        prompt = encode(f"# before\n{before}\n# after\n")
        found.append(Recording("edit", prompt + encode(after)[:NUM_DECODED], len(prompt)))
    for asked, answer in chats(per_task):
        prompt = encode(asked)
        found.append(Recording("chat", prompt + encode(answer)[:NUM_DECODED], len(prompt)))
    return found


def chats(count: int) -> Iterator[tuple[str, str]]:
    """Yield dialogues: two answered questions, a third one, and its answer; [] without data."""
    path = SHARED / "math" / "gsm8k_train.jsonl"
    if not path.is_file():
        return
    with path.open(encoding="utf-8") as lines:
        rows = [json.loads(line) for _, line in zip(range(3 * count), lines, strict=False)]
    for index in range(count):
        part = rows[3 * index : 3 * index + 3]
        turns = [f"Question: {row['question']}\nAnswer: {row['answer']}\n\n" for row in part]
        asked, answer = turns[2].split("\nAnswer: ")
        yield "".join(turns[:2]) + asked + "\nAnswer: ", answer


def stores(lm: LanguageModel, max_bytes: int, seen: list[Recording]) -> dict[str, Datastore]:
    """Return stores of code and of docstrings in which no recording has a 24-gram."""
    grams = {tuple(r.token_ids[i : i + 24]) for r in seen for i in range(len(r.token_ids) - 23)}
    texts: dict[str, list[list[int]]] = {"code": [], "docs": []}
    sizes = dict.fromkeys(texts, 0)
    for name, path in library_files().items():
        if library_bucket(name) == 0 or min(sizes.values()) > max_bytes:
            continue
        text = path.read_text(encoding="utf-8")
        for kind, part in (("code", text[:40_000]), ("docs", "".join(docstrings(text)))):
            if not part or sizes[kind] > max_bytes:
                continue
            ids = lm.vocabulary.encode(part)
            if any(tuple(ids[i : i + 24]) in grams for i in range(len(ids) - 23)):
                continue
            texts[kind].append(ids)
            sizes[kind] += len(part)
    return {kind: Datastore.build(parts) for kind, parts in texts.items()}


def hf_seconds(lm: LanguageModel, recording: Recording, **options: Any) -> float:
    """CPU seconds of `generate` on the forced text, those of its first token subtracted."""
    record = torch.tensor(recording.token_ids)

    def force(input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        wanted = record[min(input_ids.shape[1], len(record) - 1)]
        forced = torch.full_like(scores, float("-inf"))
        forced[:, wanted] = 0.0
        return forced

    ids = record[None, : recording.num_prompt]
    seconds = []
    for num_new in (1, len(record) - recording.num_prompt):
        output, spent = hf_run(lm, ids, num_new, logits_processor=[force], **options)
        seconds.append(spent)
        assert output == recording.token_ids[recording.num_prompt :][:num_new]
    return seconds[1] - seconds[0]


def hf_run(
    lm: LanguageModel, ids: torch.Tensor, num_new: int, **options: Any
) -> tuple[list[int], float]:
    """Return what `generate` wrote greedily after the first row, and its CPU seconds."""
    generate: Any = lm.model.generate
    if "assistant_model" not in options:
        options["min_new_tokens"] = num_new
    start = clock()
    output = generate(
        ids,
        attention_mask=torch.ones_like(ids),
        max_new_tokens=num_new,
        do_sample=False,
        eos_token_id=None,
        pad_token_id=0,
        **options,
    )
    return output[0, ids.shape[1] :].tolist(), clock() - start


def hf_batch_seconds(lm: LanguageModel, texts: list[Recording], num_new: int) -> float:
    """CPU seconds of batched `generate` on forced texts of one prompt length."""
    records = torch.tensor([t.token_ids[: texts[0].num_prompt + num_new] for t in texts])

    def force(input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        wanted = records[:, min(input_ids.shape[1], records.shape[1] - 1)]
        return torch.full_like(scores, float("-inf")).scatter(1, wanted[:, None], 0.0)

    ids = records[:, : texts[0].num_prompt]
    spent = [hf_run(lm, ids, n, logits_processor=[force])[1] for n in (1, num_new)]
    return spent[1] - spent[0]
