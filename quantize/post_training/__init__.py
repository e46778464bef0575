"""From a trained model to an artifact: ranges, corrections, and the tools that quantize."""
