"""Exact byte-level probabilities of token models."""
