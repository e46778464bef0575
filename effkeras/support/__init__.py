"""Shared helpers: errors, files, tables, registries, console output, result rows, charts and pages."""
