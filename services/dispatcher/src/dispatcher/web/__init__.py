"""HTTP: providers' callbacks (public) and the calls of other services (internal)."""
