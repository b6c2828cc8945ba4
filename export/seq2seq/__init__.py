"""Encoder-decoder language models, written from their weights."""
