"""Where read positions live: a file, Kafka's group, a database, Redis; and which topics a folder belongs to."""
