"""Training of drafts: one file per method, one loop for all of them."""
