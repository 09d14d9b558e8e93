"""The way to Kafka: clients, topics and their ids, reading from outside the consumer."""
