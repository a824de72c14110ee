"""The shapes that cross a process boundary: topics, envelope, one module per stream, golden examples.

Pure: imports no I/O library. Changing a struct here is changing what is on disk in Kafka: only add optional fields.
"""
