"""Turns a volume into an analysis: findings, segments and measured explanations."""
