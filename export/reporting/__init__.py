"""The parts of `export.report`: reads rows into records; makes text, tables, charts and pages of them."""
