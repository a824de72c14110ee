"""Postgres: plain SQL in a caller's transaction. Decides nothing."""
