"""What pages are made of; each can stand in anybody's page."""
