"""Tests of Pellucid."""
