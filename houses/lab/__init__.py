"""Experiments: producers, consumer and folder as one object; trials, the demo."""
