"""One batch from records to effects, and one commit."""
