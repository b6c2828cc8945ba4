"""Predict what a model does on a device: time, memory, and the setting that meets a target."""
