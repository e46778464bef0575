"""What a model is, as data: records, block and genotype grammar, the scaling law, the zoo."""
