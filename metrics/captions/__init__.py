"""Caption metrics of the COCO toolkit, with and without Java."""
