"""Architecture search: a space, a strategy, an objective and pictures in; the winner's definition out.

The way of a candidate, room by room:

- `genomes`: a candidate is a genome, one choice per gene; drawing, mutating and crossing genomes.
- `spaces/`: what a TOML file lets a search choose; a genome becomes a `ModelSpec` there.
- `strategies/`: what to try next, by `ask` and `tell`; none of them knows what a genome means.
- `evaluation/`: how good a candidate is (short training or a proxy) and what it costs.
- `objectives`: accuracy and cost as one reward, or as a Pareto front.
- `store` and `workers/`: trials that survive any kill, tried by many processes or machines.
- `reporting/`: what people look at.
"""
