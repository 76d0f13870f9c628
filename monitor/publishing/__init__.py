"""Publishing of committed messages, destination by destination."""
