"""Training: settings, schedule, averaged weights, checkpoints and run folders."""
