"""Workers: each takes a candidate from the ledger, evaluates it, and writes down what it came to.

- `loop`: one worker's work, wherever it runs.
- `here`: the search's own process as the only worker.
- `processes`: N processes of this machine; `child` is what each of them runs.
- `cluster`: any number of machines, with Ray.
- `deaths`: when workers that die are not worth starting again.
"""
