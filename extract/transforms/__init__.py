"""From decoded media to encoder inputs: image, video and audio transforms, and augmentation."""
