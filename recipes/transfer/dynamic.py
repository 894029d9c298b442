"""What dynamic tokenization is worth on the starter model: the figures of docs/transfer.md.

    python recipes/transfer/dynamic.py [--words 50000] [--windows 16]

Prints JSON lines: generation with more output words and exact or approximate search, the cost of
text in them, and prompts read with joined tokens. Text: bucket 0 of the standard library; the words
are those of buckets 6 to 9. About six CPU-minutes of one thread.
"""

import argparse
import json
import math
import random
import time

import torch

from jeton.lm.load import load_model
from jeton.starter import library_bucket, library_files
from jeton.transfer.dynamic import DynamicOptions, reader_for
from jeton.transfer.dynamic_bits import PrefillOptions, measure_prefill
from jeton.transfer.large_vocabulary import LargeVocabulary, frequent_words
from jeton.transfer.output_index import IndexOptions, OutputIndex

clock = time.thread_time


def say(**row):
    """Print one row."""
    print(json.dumps(row), flush=True)


def texts_of(buckets):
    """Return files of the standard library, in a fixed order."""
    files = library_files().items()
    found = [p.read_text(encoding="utf-8") for n, p in files if library_bucket(n) in buckets]
    random.Random(0).shuffle(found)
    return found


def generation(large, prompts, name):
    """Print bytes and CPU time of a step."""
    size = steps = seconds = 0
    for prompt in prompts:
        start = clock()
        found = large.generate(prompt, 40)
        seconds += clock() - start
        size, steps = size + len(found.data), steps + len(found.token_ids)
    say(generation=name, bytes_per_step=size / steps, ms_per_byte=1000 * seconds / size)


def search(large, text, cells):
    """Print how long a search takes and how often cells find the best row."""
    ids = large.encode(large.lm.vocabulary.encode(text))[:600]
    with torch.inference_mode():
        given = large.embed(ids)[None]
        states = large.lm.model.model(inputs_embeds=given).last_hidden_state[0, :200]
    indexes = {"exact": large.index}
    for probes in (4, 8, 16, 32):
        indexes[f"{probes} probes"] = OutputIndex(
            large.index.rows, None, IndexOptions(cells, probes)
        )
    best = None
    for name, index in indexes.items():
        start = clock()
        found = [int(index.search(state[None], 1)[1]) for state in states]
        seconds = clock() - start
        best = best or found
        recall = sum(a == b for a, b in zip(found, best, strict=True)) / len(found)
        say(search=name, ms=1000 * seconds / len(found), recall=recall)


def bits(large, texts):
    """Return bits per byte of texts in the tokens of a large vocabulary."""
    vocabulary, nats, size = large.lm.vocabulary, 0.0, 0
    for text in texts:
        ids = [vocabulary.bos_token_id, *large.encode(vocabulary.encode(text))][:400]
        with torch.inference_mode():
            given = large.embed(ids)[None]
            hidden = large.lm.model.model(inputs_embeds=given).last_hidden_state[0, :-1]
            logits, wanted = hidden @ large.index.rows.T, torch.tensor(ids[1:])
            nats += float(torch.nn.functional.cross_entropy(logits, wanted, reduction="sum"))
        size += len(vocabulary.bytes_of(large.spell(ids[1:])))
    return nats / size / math.log(2)


def main():
    """Print all figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--words", type=int, default=50_000)
    parser.add_argument("--windows", type=int, default=16)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    lm = load_model("starter", dtype="float32")
    reader, held_out = reader_for(lm), texts_of([0])
    ids = lm.vocabulary.encode_batch(texts_of(range(6, 10)))
    words = frequent_words(lm.vocabulary, ids, arguments.words)
    none, large = LargeVocabulary(reader, []), LargeVocabulary(reader, words)
    prompts = [text[:600] for text in held_out if len(text) > 3000][:6]
    generation(none, prompts, "own tokens")
    generation(large, prompts, f"{len(words)} more words")
    search(large, held_out[0][:6000], cells=256)
    documents = [text[:1500] for text in held_out if len(text) > 2000][:12]
    some = {"zett": reader, "mean": reader_for(lm, "mean")}
    say(words=0, bits_per_byte=bits(none, documents))
    for rows, own in some.items():
        say(
            words=2000, rows=rows, bits_per_byte=bits(LargeVocabulary(own, words[:2000]), documents)
        )
    say(words=len(words), rows="zett", bits_per_byte=bits(large, documents))
    windows = PrefillOptions(max_windows=arguments.windows)
    for keep_last in (0, 64, 256):
        for rows in ("", "mean"):
            own = reader_for(lm, rows, DynamicOptions(keep_last=keep_last))
            result = measure_prefill(own, held_out, (100, 400), windows)
            for point in result.points:
                say(
                    rows=rows or "zett",
                    keep_last=keep_last,
                    merges=point.num_merges,
                    saved=point.reduction,
                    plain=result.bits_per_byte,
                    joined=point.bits_per_byte,
                    last_ones=point.cut_bits_per_byte,
                )


if __name__ == "__main__":
    main()
