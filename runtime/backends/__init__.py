"""Engines behind one protocol; one file a backend, imported only when asked for."""
