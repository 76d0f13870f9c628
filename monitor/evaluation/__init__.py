"""Evaluation of versions: windows are checked, rules judged, health observed."""
