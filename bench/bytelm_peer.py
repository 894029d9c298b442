"""Runs genlm-bytes over a text, in its own environment; called by bench/bytelm.py.

python bench/bytelm_peer.py FOLDER

FOLDER holds a model, its tokenizer and text.bin; one JSON line goes to stdout. The times are CPU
seconds of the process without what came before the first byte.
"""

import asyncio
import json
import math
import sys
import time
import warnings
from pathlib import Path


async def score(folder: str, width: int, threshold: float) -> dict[str, float]:
    """Return bytes per CPU second and bits per byte of one pass."""
    import torch
    from genlm.backend import load_model_by_name
    from genlm.bytes import BeamParams, ByteBeamState

    torch.set_num_threads(1)
    data = (Path(folder) / "text.bin").read_bytes()
    llm = load_model_by_name(folder, backend="hf")
    state = await ByteBeamState.initial(
        llm, BeamParams(K=width, prune_threshold=threshold, heal=False)
    )
    start, nats, lost = time.process_time(), 0.0, 0
    for byte in data:
        found = float((await state.logp_next())[byte])
        if not math.isfinite(found):
            lost += 1
            break
        nats -= found
        state = await (state.prune() << byte)
    seconds = time.process_time() - start
    await state.cleanup()
    return {
        "width": width,
        "threshold": threshold,
        "bytes_per_second": len(data) / seconds,
        "bits_per_byte": nats / len(data) / math.log(2),
        "lost_bytes": lost,
    }


def main() -> None:
    """Run once from the command line."""
    warnings.simplefilter("ignore")
    print(json.dumps(asyncio.run(score(sys.argv[1], 5, 0.0))))


if __name__ == "__main__":
    main()
