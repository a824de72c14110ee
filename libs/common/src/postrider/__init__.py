"""What the four Postrider services share. Imports no service."""
