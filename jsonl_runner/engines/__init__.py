"""What spreads Records over workers: Records in, Outcomes out, in the order they are done."""
