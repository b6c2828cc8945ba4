"""Checkpoints written as folders of graphs, in the layout of onnx-community."""
