"""The processes: daemon, replay, and what they are put together from."""
