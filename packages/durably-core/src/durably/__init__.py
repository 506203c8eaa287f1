"""Durable, resumable async jobs on the database you already have."""
