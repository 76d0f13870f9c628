"""The demonstration: three versions of a model serve real data, and faults are injected.

`make_data` trains the versions and writes the data file, `rides` reads it, `application` serves it, `story`
describes alerts and decisions in words, `run` combines them with a real daemon.
"""
