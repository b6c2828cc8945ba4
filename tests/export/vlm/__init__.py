"""Imported vision-language families against transformers."""

STEPS = 16
