"""What is learned from: labelled scans, label maps, healthy scans."""
