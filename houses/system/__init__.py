"""All that touches the operating system: files, locks, signals, crash points; and what is written for people."""
