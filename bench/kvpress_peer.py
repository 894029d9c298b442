"""Run kvpress in its own environment, at the beat of bench/kv.py: a command a line, JSON back.

    PYTHON kvpress_peer.py {fp32|bf16} LENGTH

`observed` reads a prompt under Observed attention, `snapkv` cuts one to a quarter, `step N` decodes
N tokens after it. Times are CPU times of one thread.
"""

import gc
import json
import sys
import time
from pathlib import Path

import torch
from kvpress import ObservedAttentionPress, SnapKVPress
from transformers import AutoModelForCausalLM, DynamicCache, LlamaConfig


def build(dtype, length, attention):
    """Return the seeded 123M Llama of bench/kv.py."""
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=16384,
        hidden_size=1024,
        intermediate_size=2816,
        num_hidden_layers=9,
        num_attention_heads=16,
        num_key_value_heads=8,
        head_dim=64,
        max_position_embeddings=length + 4096,
        tie_word_embeddings=True,
        attn_implementation=attention,
    )
    return AutoModelForCausalLM.from_config(config, dtype=dtype).eval()


def memory(field):
    """Return VmRSS or VmHWM of this process in bytes; Linux only."""
    for line in Path("/proc/self/status").read_text("ascii").splitlines():
        if line.startswith(field):
            return 1024 * int(line.split()[1])
    raise SystemExit(f"/proc/self/status has no {field}")


def observed(dtype, length, ids):
    """Time a prefill under Observed, and what it takes beyond the model."""
    model = build(dtype, length, "eager")
    gc.collect()
    before = memory("VmRSS")
    started = time.thread_time()
    with ObservedAttentionPress(compression_ratio=0.75)(model):
        model.model(input_ids=ids, past_key_values=DynamicCache(), output_attentions=True)
    seconds = time.thread_time() - started
    return {"seconds": seconds, "extra_bytes": memory("VmHWM") - before}


def snapkv(dtype, length, ids):
    """Return a model and its cache after SnapKV has cut a prompt to a quarter."""
    model, cache = build(dtype, length, "sdpa"), DynamicCache()
    with SnapKVPress(compression_ratio=0.75)(model):
        model.model(input_ids=ids, past_key_values=cache)
    return model, cache


def main():
    """Obey until the end of the input."""
    torch.set_num_threads(1)
    dtype = {"fp32": torch.float32, "bf16": torch.bfloat16}[sys.argv[1]]
    length = int(sys.argv[2])
    ids = torch.randint(0, 16384, (1, length), generator=torch.Generator().manual_seed(0))
    place, model, cache = length, None, None
    with torch.inference_mode():
        for line in sys.stdin:
            command, *rest = line.split()
            if command == "observed":
                answer = observed(dtype, length, ids)
            elif command == "snapkv":
                model, cache = snapkv(dtype, length, ids)
                answer = {"kept": cache.layers[0].keys.shape[2]}
            else:
                times = []
                for _ in range(int(rest[0])):
                    started = time.thread_time()
                    positions = torch.tensor([[place]])
                    model(input_ids=ids[:, :1], past_key_values=cache, position_ids=positions)
                    times.append(1e3 * (time.thread_time() - started))
                    place += 1
                answer = {"ms": times}
            print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
