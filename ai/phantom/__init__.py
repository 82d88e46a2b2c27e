"""Synthetic head studies with lesions of known place, and the small network that finds them."""

from ai.phantom.make import Phantom, make_phantom

__all__ = ["Phantom", "make_phantom"]
