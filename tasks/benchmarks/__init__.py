"""Published data sets, one file per benchmark: their annotation files to media and examples."""
