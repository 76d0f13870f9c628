"""The configuration: one YAML file, validated as a whole, and converted to the specifications of each part.

`load` reads the file, `schema` and `sections` define the keys, `build` builds the specifications.
"""
