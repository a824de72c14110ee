"""Pure decisions of the dispatcher: states, outcomes, rates. Imports no I/O library."""
