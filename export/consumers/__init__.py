"""Who an artifact is for, and what is put behind the network so that it opens there."""
