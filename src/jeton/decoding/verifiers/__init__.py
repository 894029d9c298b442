"""One file per verifier; see the registry."""
