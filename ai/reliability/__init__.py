"""How far a diagnosis can be trusted: its probability, its alternatives, and its image."""
