"""Trials: the store that survives any kill, and the workers that evaluate candidates.

- `job`: what a search is, as data that travels to every worker.
- `locks`: file locks that the system releases when their process dies.
- `store`: reading and writing trials in an Optuna study on sqlite.
- `records`: a trial and its result.
- `ledger`: what workers do to the store: take a candidate, report, finish; the strategy is replayed from it.
- `workers`: one worker's work, and the search's own process as the only worker.
- `processes`: N worker processes on this machine. `cluster`: workers on any number of machines, with Ray.
"""
