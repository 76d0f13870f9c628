"""Simulations that hold the statistics to their promises: commands, no tests."""
