"""One file per initializer; see the registry."""
