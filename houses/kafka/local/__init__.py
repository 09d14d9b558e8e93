"""A real Apache Kafka on this machine: downloaded once and started, without Docker, Java or Maven installed."""
