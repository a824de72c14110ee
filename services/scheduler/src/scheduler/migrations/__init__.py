"""Alembic revisions of the schema `scheduler`."""
