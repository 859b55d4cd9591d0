//! GGUF through llama.cpp.
