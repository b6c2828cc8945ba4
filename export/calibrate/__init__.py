"""Weights quantised with an eye on what flows through them."""
