"""The life of an alert: pending, firing, resolved."""
