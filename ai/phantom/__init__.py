"""Synthetic head studies with lesions of known place, and the small network that finds them."""
