"""Files of other tools: what their inputs, outputs and classes mean, and running them."""
