"""The components of the process: consumer handlers and workers. Decisions are made in `domain`."""
