"""A simulated year: the scheduler's own handlers on a real Postgres, with the clock, the engine and Kafka played."""
