"""Decisions of the scheduler: when, for whom, and what became of whom. Pure: no clock, no database, no broker."""
