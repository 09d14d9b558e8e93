"""Tables and figures from the output files."""
