"""Use cases: what a request does inside one transaction. They take a transaction, decide by the domain, return resources.

Must not know HTTP. They ask for definitions to be published; waiting for the broker is the caller's.
"""
