"""Non-maximum suppression as part of an artifact, after a detector's heads."""
