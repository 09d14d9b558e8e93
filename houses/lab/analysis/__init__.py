"""Tables (pandas) and figures (matplotlib) from the output files."""
