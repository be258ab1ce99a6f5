"""Prepares deployments and runs them in sandboxes."""
