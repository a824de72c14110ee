"""Postgres: engine and transactions, migrations, outbox, progress. Kafka carries, Postgres decides."""
