"""The connection to broker A: configuration, certificates, the client, and a test of it."""
