"""The steps of recipes, one module each: what a recipe's table says, and how it is carried out."""
