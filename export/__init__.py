"""Offline half: a checkpoint in, a verified bundle out. Imports without torch."""
