"""Online half: runs bundles. Imports neither torch nor ``edgevlm.export``, and no engine."""
