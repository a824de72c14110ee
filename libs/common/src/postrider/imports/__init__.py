"""Events and profiles of the past, from a file into user-events: `python -m postrider.imports`, docs/imports.md."""
