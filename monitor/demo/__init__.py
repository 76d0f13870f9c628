"""The demonstration: a model served by three versions, on real data, until things go wrong.

`make_data` trains the versions and writes the data file, `rides` reads it, `application` serves it, `story`
says what happens in plain words, `run` puts them together with a real daemon.
"""
