"""Datasets through a provider's Batch API: the same rows, the same ledger, half the price."""
