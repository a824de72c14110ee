"""The dispatcher's Postgres: SQL only, one module a concern. Decides nothing; every write is a compare-and-set."""
