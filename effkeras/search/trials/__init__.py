"""Trials: the store that survives any kill, and the workers that evaluate candidates.

- `job`: the settings of a search, pickled for every worker.
- `locks`: file locks that the system releases when their process dies.
- `store`: reads and writes trials in an Optuna study on sqlite.
- `records`: a trial and its result.
- `ledger`: takes a candidate from the store, reports, and finishes it; replays the strategy from the store.
- `workers`: the loop of one worker, and the search's own process as the only worker.
- `processes`: N worker processes on this machine. `cluster`: workers on any number of machines, with Ray.
"""
