//! A TCP proxy that misbehaves on command.
