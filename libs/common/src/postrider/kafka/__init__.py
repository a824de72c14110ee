"""Kafka: the only place that imports aiokafka. Every hop is at least once; every effect has a key elsewhere."""
