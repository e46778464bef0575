"""Model definitions as data: records, block and genotype grammar, compound scaling, the zoo."""
