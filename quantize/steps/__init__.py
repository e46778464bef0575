"""The steps of recipes, one module each: the words, the options, and how the step runs."""
