"""Reports of finished searches: charts, tables, and a drawing of the best network.

- `searches`: reads candidates from results.jsonl; the best so far by trial, and the importance of genes.
- `settings`: reads search.toml. `tables`: numbers as text.
- `charts`: the images. `content`: the sentences and their order.
- `report`: writes the report to a folder, as HTML and Markdown.
"""
