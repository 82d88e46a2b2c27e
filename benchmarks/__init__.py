"""Measures what the documentation claims, one command per figure."""
