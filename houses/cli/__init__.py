"""The verbs of the command line: what is typed and printed; the work itself is done elsewhere."""
