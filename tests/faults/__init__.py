"""`make faults`: what happens to files, runs and readers when something goes wrong, part by part.

A part is a module in `parts/` with a `SUMMARY` and a `run(out)`, which calls `out.add(case, end)` for each
case and leaves out those that `out.has`: a part that was stopped goes on. Seeds are fixed. The rows are JSON
lines in `runs/faults/PART.jsonl`; those of another commit are not continued.
"""
