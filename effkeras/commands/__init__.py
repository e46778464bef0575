"""One module per verb of the `effkeras` command; `main(argv)` parses the options and runs it."""
