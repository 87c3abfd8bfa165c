"""What a run leaves besides its store: its log, and the list of damaged samples."""
