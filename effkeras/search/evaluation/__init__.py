"""How good a candidate is, and what it costs.

- `protocol`: what an evaluator is; `evaluators` makes one from `settings`, in any process.
- `costs`: parameters, MACs, bytes and latency of the real artifact (`artifacts`), or the latency from a table
  of blocks (`block_tables` reads and checks it, `block_timing` makes it); `limits` keeps a space within them.
- `training`: a few epochs for each candidate, on `images` in memory.
- `proxies`: synflow of untrained networks, beside parameters and MACs, in the place of the accuracy.
- `ranking`: how far two figures agree on an order.
"""
