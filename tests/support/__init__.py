"""What tests share: small models, official numbers, other libraries as judges."""
