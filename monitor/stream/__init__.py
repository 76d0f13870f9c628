"""Sources of records and sinks of messages: Kafka, files or memory behind two protocols."""
