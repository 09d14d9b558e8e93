"""Experiments: producers, consumer and folder as one object; stop and reset, crash trials, the demo."""
