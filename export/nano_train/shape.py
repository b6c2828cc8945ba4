"""Widths that the heads share."""

WIDTH = 192  # features of a cell
FINE, MIDDLE, COARSE = 40, 112, 1280  # channels of the three stages, the coarsest behind its head
