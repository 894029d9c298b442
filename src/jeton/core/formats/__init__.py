"""One reader per tokenizer file format; `jeton.core.vocabulary` is the way in."""
