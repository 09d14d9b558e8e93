"""config.yaml and the environment: read, checked, one object."""
