"""The main job: audit, learn, transplant, heal, verify, certify."""
