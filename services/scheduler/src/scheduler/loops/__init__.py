"""Components that run for the life of the process and call the handlers. They own transactions and waiting."""
