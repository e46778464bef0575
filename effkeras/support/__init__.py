"""What every room uses: errors, files, tables, the console, measured rows, drawing and pages."""
