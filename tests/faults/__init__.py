"""Fault runs: the suite's processes are killed and stopped while a campaign goes out. `make faults SEED=1`."""
