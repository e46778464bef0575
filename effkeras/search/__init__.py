"""Architecture search: a search space, a strategy, an objective and images in; the winner's definition out.

- `genomes`: a candidate is a genome, one choice per gene; drawing, mutating and crossing genomes.
- `spaces/`: search spaces as TOML files; they turn a genome into a `ModelSpec`.
- `strategies/`: what to try next, by `ask` and `tell`; no strategy knows what a genome means.
- `evaluation/`: how good a candidate is (short training or a proxy) and what it costs.
- `objectives`: accuracy and cost as one reward, or as a Pareto front.
- `trials/`: the store of trials, which survives any kill, and the workers that evaluate them.
- `folder`, `run`, `progress`: a search's files, the search itself, and its progress on the terminal.
- `reporting/`: a finished search as a page. `benchmarks/`: what strategies and workers are worth.
"""
