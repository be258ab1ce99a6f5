"""The service: HTTP, identity, resources, loops and store."""
