"""Promises of the protocols, written once and run on every implementation."""
