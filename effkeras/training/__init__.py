"""Training: settings, schedule, averaged weights, checkpoints, and the run folder they leave behind."""
