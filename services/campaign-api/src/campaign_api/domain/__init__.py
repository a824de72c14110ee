"""Decisions of the campaign-api: pure, no I/O, no clock of its own."""
