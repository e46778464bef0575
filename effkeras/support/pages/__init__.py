"""Pages that people look at: one self-contained HTML file, and the same as Markdown.

- `parts`: the tables and images that a page is made of.
- `rendering`: the templates' environment; `templates/` holds what all pages share.
"""
