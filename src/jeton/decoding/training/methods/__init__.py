"""One file per way of training a draft; see the registry."""
