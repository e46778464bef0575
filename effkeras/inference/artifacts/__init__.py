"""What opens an exported artifact: one module per file format."""
