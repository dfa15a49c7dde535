"""Simulated scanners: bags in three dimensions, Beer-Lambert physics, and deliveries as sites make them."""
