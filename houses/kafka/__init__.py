"""Clients of Kafka, topics and their ids, reading topics from outside the consumer; in `local` a Kafka of one's own."""
