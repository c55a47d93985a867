"""Tasks whose images show several things: multi-label classification, segmentation and detection."""
