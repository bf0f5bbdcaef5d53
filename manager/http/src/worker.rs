//! What a node serves that is no manager.
