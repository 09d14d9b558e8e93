"""The panel and the time machine."""
