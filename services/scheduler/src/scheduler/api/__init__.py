"""Internal HTTP of the scheduler."""
