//! Decoder models: file formats, configuration and the forward pass, generic over the backend.
