"""The sections of the configuration, a module a subject."""
