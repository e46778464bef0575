"""What a run folder tells of its model and artifacts: records, read from results.jsonl, and model cards."""
