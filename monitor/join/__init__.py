"""Join predictions with their outcomes.

From the bottom up: `ids` hashes what identifies an event, `index` finds its key, `slots` has the columns of
what waits, `closed` remembers what is done, `ended` what is told of it, `entries` ties these together.
`sampling` and `expiry` bound them. `answers` and `outcomes` process the rows of a round, `table` the rounds
of a batch. `blobs` encodes what is stored, `log` decides what a commit stores. `rows`, `results` and
`request_state` are the values that go in and come out.
"""
