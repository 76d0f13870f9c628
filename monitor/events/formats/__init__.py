"""Wire formats of records. Today there is one, driftd's own JSON."""
