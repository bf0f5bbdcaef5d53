//! Tests of the Control service against a real manager.
