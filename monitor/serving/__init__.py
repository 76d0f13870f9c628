"""Serving of a model: proposals in, one decision out."""
