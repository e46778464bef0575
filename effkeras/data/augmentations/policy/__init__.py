"""What policies are made of; not augmentations by themselves."""
