"""When texts are due: occurrences, zones, quiet hours. Pure: no clock, no database, no broker, no campaign's people."""
