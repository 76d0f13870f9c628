"""The configuration: one YAML file, validated as a whole, and converted to the specifications of each part.

`load` reads the file, `schema` defines the keys, `build` builds the specifications.
"""
