"""Caption metrics of the COCO toolkit; Java is optional for some of them."""
