"""The programs that artifacts are made for, one module each: what they take, and what is done for them."""
