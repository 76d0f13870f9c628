"""The configuration: one YAML file, validated as a whole, turned into what each part is told.

`load` reads the file, `schema` says which keys there are, `build` makes the specs.
"""
