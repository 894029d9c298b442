"""What a user generates, as recordings: prompts with the text that followed them."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jeton.decoding.generation import generate
from jeton.decoding.prompt import prompt_ids
from jeton.errors import ConfigError, InputError
from jeton.lm.load import LanguageModel

_TEXT_KEYS = ("text", "content")
_PROMPT_KEYS = ("prompt", "question", "instruction", "input")
_ANSWER_KEYS = ("completion", "answer", "response", "output", "canonical_solution")


@dataclass(frozen=True, slots=True)
class Recording:
    """A text in tokens, cut into prompt and what follows.

    Attributes:
        token_ids: The whole text.
        num_prompt_tokens: At its beginning.
    """

    token_ids: tuple[int, ...]
    num_prompt_tokens: int


@dataclass(frozen=True, slots=True)
class Item:
    """One item of a workload; `answer` is empty when only the prompt is known."""

    prompt: str
    answer: str = ""


def read_workload(path: Path, *, max_items: int = 16) -> list[Item]:
    """Return the items of a file, evenly taken where there are more than `max_items`.

    JSON lines hold a text (`text`), a prompt with its answer (`prompt` and `completion`, and other
    usual names), a prompt alone, or turns (`turns`, `messages`). Any other file is cut at blank
    lines into texts of about 4,000 characters.

    Raises:
        InputError: the file cannot be read, or a line is no such item.
        ConfigError: there is nothing in it.
    """
    try:
        content = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path} cannot be read: {error}") from error
    if path.suffix in (".jsonl", ".ndjson"):
        lines = [line for line in content.splitlines() if line.strip()]
        items = [_parse(line, f"{path}, line {n}") for n, line in enumerate(lines, start=1)]
    else:
        items = [Item("", text) for text in _cut(content, 4000)]
    if not items:
        raise ConfigError(f"{path} holds no prompts", hint="write one JSON document per line")
    step = max(1, -(-len(items) // max_items))
    return items[::step]


def _parse(line: str, where: str) -> Item:
    """Return the item of one JSON line."""
    try:
        document: Any = json.loads(line)
    except json.JSONDecodeError as error:
        raise InputError(f"{where}: {error}") from error
    if isinstance(document, str):
        return Item(document)
    if isinstance(document, dict):
        dialogue = _turns(document.get("turns") or document.get("messages"))
        if dialogue:
            return dialogue
        prompt, answer, text = (
            next((document[key] for key in keys if isinstance(document.get(key), str)), "")
            for keys in (_PROMPT_KEYS, _ANSWER_KEYS, _TEXT_KEYS)
        )
        if prompt or text:
            return Item(prompt, answer) if prompt else Item("", text)
    raise InputError(
        f"{where} holds no text, prompt or turns",
        hint='write {"prompt": "...", "completion": "..."} or {"text": "..."}',
    )


def _turns(turns: Any) -> Item | None:
    """Return the item of a dialogue; turns of one side only have no answer between them."""
    if not isinstance(turns, list) or not turns:
        return None
    said = [turn.get("content") if isinstance(turn, dict) else turn for turn in turns]
    texts = [text for text in said if isinstance(text, str) and text]
    if len(texts) < len(said):
        return None
    if isinstance(turns[0], dict) and len(texts) > 1:
        return Item("\n".join(texts[:-1]) + "\n", texts[-1])
    return Item(texts[0])


def _cut(content: str, size: int) -> list[str]:
    """Return pieces of about a size, cut at blank lines where there are some."""
    pieces, piece = [], ""
    for paragraph in content.split("\n\n"):
        piece += paragraph + "\n\n"
        while len(piece) >= size:
            pieces.append(piece[: 2 * size])
            piece = piece[2 * size :]
    return [*pieces, piece] if piece.strip() else pieces


def record(
    lm: LanguageModel, items: Sequence[Item], *, num_decoded_tokens: int = 128
) -> list[Recording]:
    """Return the recordings of a workload; the model itself answers where no answer is known.

    Args:
        lm: The target.
        items: Those without two tokens are left out.
        num_decoded_tokens: Upper bound on what follows a prompt.
    Raises:
        ConfigError: nothing is left.
    """
    found = []
    for item in items:
        recording = _record(lm, item, num_decoded_tokens)
        if recording is not None:
            found.append(recording)
    if not found:
        raise ConfigError("the workload has no text of three tokens or more")
    return found


def _record(lm: LanguageModel, item: Item, num_decoded: int) -> Recording | None:
    longest = lm.max_length or 1 << 40
    if not item.prompt:
        whole = prompt_ids(lm, item.answer)[:longest] if item.answer else []
        # No more than half is decoded: drafters that look back need something to look at.
        start = max(len(whole) // 2, len(whole) - num_decoded)
        return Recording(tuple(whole), start) if len(whole) > 2 else None
    prompt = prompt_ids(lm, item.prompt)[-max(1, longest - num_decoded) :]
    if item.answer:
        answer = lm.vocabulary.encode(item.answer)[:num_decoded]
    else:
        answer = generate(lm, prompt, max_new_tokens=num_decoded).token_ids
    return Recording((*prompt, *answer), len(prompt)) if len(answer) > 1 else None
