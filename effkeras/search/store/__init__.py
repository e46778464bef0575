"""The store of a search: every trial in an Optuna study on sqlite, whatever is killed and whenever.

The study is the log of all asks and tells, from which any process makes the strategy anew.

- `locks`: locks that the system lets go when their process dies.
- `database`: the sqlite file, an Optuna study.
- `records`: a trial, and what an evaluation came to.
- `log`: reading and writing trials; heartbeats.
- `replica`: a strategy that follows the log.
- `ledger`: what workers do to the log: take a candidate, report, finish.
"""
