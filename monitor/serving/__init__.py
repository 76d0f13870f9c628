"""Who serves a model: proposals in, one decision out."""
