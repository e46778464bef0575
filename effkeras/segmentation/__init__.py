"""What masks need beyond boxes: loss, metric, and the way back to the picture's pixels."""
