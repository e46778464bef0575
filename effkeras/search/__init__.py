"""Architecture search: from a search space, a strategy, an objective and images to the best definition.

- `genomes`: a candidate is a genome, one choice per gene; draws, mutates and crosses genomes.
- `spaces/`: search spaces as TOML files; they turn a genome into a `ModelSpec`.
- `strategies/`: choose the next genome, with `ask` and `tell`; no strategy knows what a genome means.
- `evaluation/`: the accuracy of a candidate (short training or a proxy) and its costs.
- `objectives`: accuracy and cost as one reward, or as a Pareto front.
- `trials/`: the store of trials, which survives any kill, and the workers that evaluate them.
- `folder`, `run`: a search's files, the search itself, and its progress on the terminal. `options`: the
  options of `effkeras search` as a job.
- `reporting/`: a finished search as a page. `benchmarks/`: benchmarks of strategies and workers.
"""
