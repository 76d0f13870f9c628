"""The destinations that messages can be delivered to, one module each."""
