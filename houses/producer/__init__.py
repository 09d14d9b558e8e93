"""The three part threads: ids, pacing, faults, sending; and stornos."""
