"""A real Kafka on this machine, without Docker, Java or Maven installed."""
