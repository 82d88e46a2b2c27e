"""The explainer card: what a model and its explainers are worth on known cases, on one page."""
