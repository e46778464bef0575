"""Evaluation of candidates: accuracy and costs.

- `protocol`: the interface of an evaluator; `evaluators` makes one from `settings`, in any process.
- `costs`: parameters, MACs, bytes and latency of the .tflite file, or the latency that a table of blocks
  predicts. `artifacts` converts, times, and makes and checks tables; `block_tables` reads them. `limits`
  restricts a space to limits on costs.
- `training`: trains each candidate for a few epochs, on `images` in memory.
- `proxies`: synflow of untrained networks, parameters or MACs instead of the accuracy.
- `ranking`: rank correlations.
"""
