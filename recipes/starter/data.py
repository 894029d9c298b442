"""Training text of the starter model: what is read, how it is split, how it becomes token ids.

Three domains: English prose, Python, and a little of several other languages. Books come from a
folder with public-domain and openly licensed text; Python comes from the standard library of the
interpreter that runs the recipe. Nothing is downloaded.

Held out from everything: two whole English books, and every tenth file of the standard library
(by a hash of its path). Half of the library is left unread on purpose, so that moving the starter
model onto Python text is a real change of domain.
"""

import json
import random
from pathlib import Path

import numpy as np
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

from jeton.starter import library_bucket, library_files

HELD_OUT_BOOKS = ("botchan.txt", "carroll-alice.txt")
SPECIAL_TOKENS = (
    "<|endoftext|>",
    "<|fim_prefix|>",
    "<|fim_middle|>",
    "<|fim_suffix|>",
    "<|pad|>",
)
VOCAB_SIZE = 8192
# Contractions; words with one leading mark; up to three digits; punctuation with its line end;
# blank lines; white space. Written for this project after the shape most open models share.
PATTERN = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)


def _read(path: Path) -> str:
    text = path.read_text(encoding="utf-8", errors="strict")
    if path.suffix == ".tsv":  # verse id TAB text
        return "\n".join(line.split("\t", 1)[-1] for line in text.splitlines())
    return text


def collect(folder: Path) -> dict[str, list[str]]:
    """Return {stream: documents} for the streams english, python, other, fim and held-out ones."""
    english, other, held_english = [], [], []
    for path in sorted((folder / "corpora").rglob("*")):
        if path.suffix not in (".txt", ".tsv"):
            continue
        if path.name in HELD_OUT_BOOKS:
            held_english.append(_read(path))
        elif "en" in path.relative_to(folder / "corpora").parts[:1]:
            english.append(_read(path))
        else:
            other.append(_read(path))
    problems = [json.loads(line) for line in (folder / "math/gsm8k_train.jsonl").open()]
    english += [f"Question: {p['question']}\nAnswer: {p['answer']}" for p in problems]
    other += [_read(p) for p in sorted((folder / "udhr/articles").glob("*.txt"))]

    files = {name: path.read_text(encoding="utf-8") for name, path in library_files().items()}
    python = [text for name, text in files.items() if 1 <= library_bucket(name) <= 5]
    held_python = [text for name, text in files.items() if library_bucket(name) == 0]
    return {
        "english": english,
        "python": python,
        "other": other,
        "fim": [_fill_in_the_middle(text, i) for i, text in enumerate(python) if len(text) > 400],
        "held_english": held_english,
        "held_python": held_python,
    }


def _fill_in_the_middle(text: str, seed: int) -> str:
    """Cut a window of the text at two characters and write it prefix, suffix, middle."""
    rng = random.Random(seed)
    start = rng.randrange(max(1, len(text) - 1600))
    window = text[start : start + 1600]
    a, b = sorted(rng.sample(range(len(window)), 2))
    prefix, middle, suffix = window[:a], window[a:b], window[b:]
    return f"<|fim_prefix|>{prefix}<|fim_suffix|>{suffix}<|fim_middle|>{middle}"


def train_tokenizer(streams: dict[str, list[str]]) -> Tokenizer:
    """Learn the byte-level BPE: English, a little of the other languages, a tenth of the Python."""
    rng = random.Random(0)
    texts = list(streams["english"])
    texts += [text[:200_000] for text in streams["other"]]
    texts += [text for text in streams["python"] if rng.random() < 0.1]
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(PATTERN), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCAB_SIZE,
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        special_tokens=list(SPECIAL_TOKENS),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer


def encode_streams(tokenizer: Tokenizer, streams: dict[str, list[str]]) -> dict[str, np.ndarray]:
    """Return {stream: ids, shape (seq,), uint16}, documents separated by <|endoftext|>."""
    encoded = {}
    for name, documents in streams.items():
        parts = []
        order = list(range(len(documents)))
        random.Random(0).shuffle(order)
        for index in order:
            ids = tokenizer.encode(documents[index]).ids
            parts.append(np.array([0, *ids], dtype=np.uint16))
        encoded[name] = np.concatenate(parts)
    return encoded
