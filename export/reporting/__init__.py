"""What `export.report` is made of: rows to records, records to sentences, tables, charts and pages."""
