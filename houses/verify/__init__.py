"""Proof and stories from outside; knows nothing of the consumer."""
