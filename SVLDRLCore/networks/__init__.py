"""Networks: one shared encoder, three decoders."""
