"""Stand-ins for what lives outside: providers that behave, and servers that misbehave. Used by tests and benchmarks."""
