"""Large maps of a .tflite computed in strips of rows: `regions` finds where, `writing` does it."""

from effkeras.litert.strips.writing import has_strips, in_strips

__all__ = ["has_strips", "in_strips"]
