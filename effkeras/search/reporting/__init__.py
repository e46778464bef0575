"""What people look at after a search: pictures of its trials, and its winner drawn.

- `trials`: the rows of a search's results.jsonl.
- `curves`: the best so far by trial, and what random search would have found.
- `importance`: which genes mattered.
- `charts`, `network`: the pictures.
- `settings`: what search.toml says. `tables`, `wording`: figures as text.
- `content`: the sentences, and what stands where. `pages`: as HTML and Markdown.
- `report`: all of it in a folder.
"""
