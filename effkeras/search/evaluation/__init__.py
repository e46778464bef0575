"""Evaluation of candidates: accuracy and costs.

- `settings`: the interface of an evaluator, and its settings; `evaluators` makes one, in any process.
- `costs`: parameters, MACs, bytes and latency of the .tflite file, or the latency that a table of blocks
  predicts; it also restricts a space to limits on costs. `artifacts` converts, times, and makes and checks
  tables; `block_tables` reads them, and has rank correlations.
- `training`: trains each candidate for a few epochs, on `images` in memory.
- `proxies`: synflow of untrained networks, parameters or MACs instead of the accuracy.
"""
