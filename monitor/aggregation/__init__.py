"""Stage one: panes, counts, sums and what is estimated from them."""
