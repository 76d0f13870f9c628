"""The data of the demonstration; NOTICE.md says whose they are."""
