"""Episodes of alerts: pending, firing, resolved."""
