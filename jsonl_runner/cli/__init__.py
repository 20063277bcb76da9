"""The command line: options in, one library call, words and an exit code out."""
