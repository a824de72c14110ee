"""The one-machine launcher: embedded Kafka and Postgres, the four services as processes, `make run`.

For development, tests and the demonstration only: no service imports this package, and nothing here decides
anything about campaigns. Start reading at `parts` (where Kafka and Postgres come from) and `suite` (the whole).
"""
