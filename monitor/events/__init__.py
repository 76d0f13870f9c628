"""Records of the stream become columns of events, or are refused with a reason."""
