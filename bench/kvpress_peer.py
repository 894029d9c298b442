"""Time kvpress in its own environment; prints one JSON line. Called by bench/kv.py."""

import json
import sys
import time

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


def main():
    """Time a prefill under Observed and decoding after SnapKV."""
    torch.set_num_threads(1)
    dtype = {"fp32": torch.float32, "bf16": torch.bfloat16}[sys.argv[1]]
    length = int(sys.argv[2])
    ids = torch.randint(0, 16384, (1, length), generator=torch.Generator().manual_seed(0))
    found = {}
    with torch.inference_mode():
        model = build(dtype, length, "eager")
        started = time.thread_time()
        with ObservedAttentionPress(compression_ratio=0.75)(model):
            model.model(input_ids=ids, past_key_values=DynamicCache(), output_attentions=True)
        found["observed_s"] = time.thread_time() - started
        model = build(dtype, length, "sdpa")
        cache = DynamicCache()
        with SnapKVPress(compression_ratio=0.75)(model):
            model.model(input_ids=ids, past_key_values=cache)
        times = []
        for step in range(24):
            started = time.thread_time()
            model(
                input_ids=ids[:, :1],
                past_key_values=cache,
                position_ids=torch.tensor([[length + step]]),
            )
            times.append(time.thread_time() - started)
        found["decode_ms"] = 1e3 * sorted(times[4:])[10]
    print(json.dumps(found))


if __name__ == "__main__":
    main()
