"""The cost sheet: what a model asks of a machine, before any machine is named.

``edgevlm.export.cost`` writes it from graphs, ``edgevlm.cost.shapes`` from a model's dimensions,
``edgevlm.runtime.device.plan`` reads it.
"""

from edgevlm.cost.sheet import CostSheet, GraphCost, PictureSetting, Poly, Weights, Work

__all__ = ["CostSheet", "GraphCost", "PictureSetting", "Poly", "Weights", "Work"]
