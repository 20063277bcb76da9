"""Training formats: what a row becomes, and the files it is written into."""
