"""Strangers' files and unfinished writes."""
