"""The part threads: ids, pacing, faults, sending; and stornos."""
