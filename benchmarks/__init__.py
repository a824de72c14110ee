"""Benchmarks: figures beside the naive way, in one run. They print; they never assert a wall-clock time."""
