"""Non-maximum suppression inside an artifact, behind a detector's heads."""
