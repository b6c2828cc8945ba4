"""Trains what nano adds to its encoder and its language model; needs torch."""
