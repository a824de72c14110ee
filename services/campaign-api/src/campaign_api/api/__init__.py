"""HTTP: reads requests, calls a use case, writes its answer. Decides nothing about campaigns."""
