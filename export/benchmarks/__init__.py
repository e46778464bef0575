"""Benchmarks of effkeras itself (`make bench`: README, models/results.jsonl) and the demos.

Most modules are commands, `python -m export.benchmarks.NAME`. To time your own file, use
`effkeras export bench`.
"""
