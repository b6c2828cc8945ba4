"""Folders of finished graphs, as onnx-community and optimum publish them, become bundles."""
