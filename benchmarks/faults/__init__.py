"""What ``python -m benchmarks.fault_run`` does to four streams, and how it judges them."""
