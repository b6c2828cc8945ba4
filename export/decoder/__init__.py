"""Decoders from weights: one shape description, one file per lowering."""
