"""The verbs of `effkeras data`: convert, split, check and show data sets, and write one that ships."""
