"""SMS providers: one vendor a file, behind one Protocol (base.py). No Kafka and no Postgres in here."""
