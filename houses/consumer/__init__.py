"""The core: join, journal, recovery, checkpoints, the loop."""
