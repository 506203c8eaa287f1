"""What the documentation shows, executed as a reader would."""
