"""What the settings and credentials of each kind of provider may hold, a vendor a file."""
