"""Use cases: what a request does inside one transaction, decided by the domain. They return resources.

Must not know HTTP. They ask for definitions to be published; waiting for the broker is the caller's.
"""
