"""Commands that find and score lesions, and check the installation."""
