"""Benchmarks of strategies, proxies and workers; `make bench-search` runs them."""
