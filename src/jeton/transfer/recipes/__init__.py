"""Published ways to move a model, as presets over learners, initializers and healers."""
