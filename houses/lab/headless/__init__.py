"""Notebooks run by papermill, without a browser: checked parameters, a folder for each run, reports, sweeps."""
