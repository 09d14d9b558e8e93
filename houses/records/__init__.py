"""The wire format and the lines of the files: each format is known here and nowhere else."""
