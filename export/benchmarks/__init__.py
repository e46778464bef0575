"""What measures effkeras itself: figures of README and models/results.jsonl (`make bench`), and the demos.

Each module is a command, `python -m export.benchmarks.NAME`, and nothing else imports them. To time a file of
your own use `effkeras export bench`.
"""
