"""Peers: what people use for this job today, each written as its own documentation shows.

`catalog.PEERS` lists them; `base` says what the harness may ask of one.
"""
