"""The panel with its live chart, and the time machine, as widgets in JupyterLab."""
