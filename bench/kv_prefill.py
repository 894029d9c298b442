"""Read one prompt, densely or with attention mass; time and memory as JSON, for bench/kv.py.

python bench/kv_prefill.py {float32|bfloat16} LENGTH {dense|h2o}
"""

import contextlib
import gc
import json
import sys
import time
from pathlib import Path

import torch

from jeton.kv import Cache, attach, create_policy
from jeton.lm.pack import packed
from kv import build


def memory(field):
    """Return VmRSS or VmHWM of this process in bytes; Linux only."""
    for line in Path("/proc/self/status").read_text("ascii").splitlines():
        if line.startswith(field):
            return 1024 * int(line.split()[1])
    raise SystemExit(f"/proc/self/status has no {field}")


def main():
    """Read the prompt; print CPU seconds of one thread and peak bytes beyond the model."""
    dtype, length, name = sys.argv[1], int(sys.argv[2]), sys.argv[3]
    torch.set_num_threads(1)
    model = build(getattr(torch, dtype), length)
    ids = torch.randint(0, 16384, (1, length), generator=torch.Generator().manual_seed(0))
    gc.collect()
    before = memory("VmRSS")
    started = time.thread_time()
    with contextlib.ExitStack() as stack:
        stack.enter_context(torch.inference_mode())
        if dtype == "bfloat16":  # float32 copies of the weights where bf16 is emulated
            stack.enter_context(packed(model, lean=False))
        if name == "dense":
            model(input_ids=ids, past_key_values=Cache(model.config), logits_to_keep=1)
        else:
            stack.enter_context(attach(model, create_policy(name, budget=length // 4)))
            model(input_ids=ids, use_cache=True, logits_to_keep=1)
    seconds = time.thread_time() - started
    print(json.dumps({"seconds": seconds, "extra_bytes": memory("VmHWM") - before}))


if __name__ == "__main__":
    main()
