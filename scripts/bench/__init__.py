"""Benchmarks: speed and cost side by side in one run."""
