"""Deterministic simulation of the delivery engine: one thread, one seed, every fault we know of.

The engine is the production one, unchanged; clock, chance, network, provider, people and the
faults of the database are simulated, and what the provider's own record says is what counts.
"""
