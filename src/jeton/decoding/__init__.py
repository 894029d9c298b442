"""Faster decoding with the output law unchanged."""
