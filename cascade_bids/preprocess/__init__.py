"""From raw images to the network grid."""
