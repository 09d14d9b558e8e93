"""The core: the join, its three files, the start after a crash, checkpoints, and the loop over all this."""
