"""Notebooks run by papermill, without a browser."""
