"""Rebuilds the event store from what is still there, and writes its events to a file: docs/operations.md."""
