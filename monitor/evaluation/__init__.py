"""Stage two: windows are checked, rules are judged, health follows."""
