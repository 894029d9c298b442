"""One file per metric; see the registry."""
