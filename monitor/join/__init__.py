"""Predictions meet their outcomes.

`ids` hashes what identifies an event, `index` finds it, `table` holds what waits and joins a batch at a
time, `log` is the durable form: one columnar segment a commit.
"""
