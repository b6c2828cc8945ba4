"""Encoders and their heads against their source models."""
