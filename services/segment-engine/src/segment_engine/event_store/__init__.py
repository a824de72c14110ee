"""The event store: history, profiles, audiences and the message log in columns, behind one port (`port.EventStore`)."""
