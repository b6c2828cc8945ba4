"""Heads on an encoder's features, each a graph of its own: one pass of the encoder serves many."""
