"""Any Hugging Face causal LM: loading, the runner, token trees, bits per byte, cost."""
