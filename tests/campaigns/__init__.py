"""Long runs and measurements: `lab.py bench`, `crashtest` and `soak`."""
