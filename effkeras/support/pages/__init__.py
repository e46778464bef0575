"""Report pages: one self-contained HTML file, and the same as Markdown.

- `parts`: the tables, charts and sections of a page.
- `rendering`: writes a page by templates; `templates/` holds those that all pages share.
"""
