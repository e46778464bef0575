"""A report of finished searches: charts, tables, and the winner drawn.

- `searches`: candidates read from results.jsonl, the best so far by trial, and which genes mattered.
- `settings`: what search.toml says. `tables`: figures as text.
- `charts`, `network`: the images. `content`: the sentences, and their order.
- `report`: all of it in a folder, as HTML and Markdown.
"""
