"""Temporal workflows: thin drivers, no decisions of their own."""
