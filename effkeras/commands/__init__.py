"""One module for each verb of the `effkeras` command; `main(argv)` parses and runs it."""
