"""Measurements that the README and docs/benchmarks.md quote, each a runnable module."""
