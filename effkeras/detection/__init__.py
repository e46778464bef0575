"""Detection: anchors, box coding, matching, losses, NMS, average precision, and mask decoding."""
