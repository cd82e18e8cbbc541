"""Preprocessing: from raw images to normalised images on the network grid."""
