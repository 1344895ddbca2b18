"""What takes hours."""
