"""What turns head outputs into boxes and boxes into targets: anchors, coding, matching, NMS, losses."""
