"""SQL in and out of the shapes of the domain. Decides nothing."""
