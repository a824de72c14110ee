"""Use cases: each runs inside a transaction it is given and returns what is to be published."""
