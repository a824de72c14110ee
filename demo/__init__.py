"""The demonstration: the whole suite plays a story on real purchases. `make demo`."""
