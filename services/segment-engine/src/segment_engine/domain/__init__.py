"""Pure decisions of the segment-engine: rows, rules as SQL, live matching. Imports no I/O library."""
