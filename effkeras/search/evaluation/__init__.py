"""How good a candidate is, and what it costs.

- `protocol`: what an evaluator is; `evaluators` makes one from `settings`, in any process.
- `costs`: parameters, MACs, bytes and latency of the real artifact, or the latency that a table of blocks
  predicts. `artifacts` converts and times, and makes and checks tables; `block_tables` reads them. `limits`
  keeps a space within limits on costs.
- `training`: a few epochs for each candidate, on `images` in memory.
- `proxies`: synflow of untrained networks, beside parameters and MACs, in the place of the accuracy.
- `ranking`: how far two figures agree on an order.
"""
