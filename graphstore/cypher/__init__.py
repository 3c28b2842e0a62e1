"""Cypher of users: taken apart, checked to be one reading statement, and written anew for the store."""
