"""`make test`: the test files shared among a few pytest processes, lint and types beside them, one line of totals."""
