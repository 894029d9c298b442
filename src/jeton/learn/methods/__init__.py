"""One file per method; see the registry."""
