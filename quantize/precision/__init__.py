"""Mixed precision: the layers that are sensitive to int8."""
