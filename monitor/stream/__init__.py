"""Where records come from and where messages go: Kafka, files or memory behind two protocols."""
