"""Report pages: one self-contained HTML file, and the same as Markdown.

- `parts`: the tables, charts and sections of a page.
- `rendering`: the template environments; `templates/` holds the templates that all pages share.
"""
