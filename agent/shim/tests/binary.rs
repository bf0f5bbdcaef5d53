//! The unit tests of the binary's own modules, as far as these need no libcontainer.
//!
//! The binary is only built with the feature `bin` (the agent's build script asks for it), so that tests of the workspace
//! would leave its modules out: here they are compiled once more, for their tests alone.
#![allow(dead_code)]

#[path = "../src/command.rs"]
mod command;
#[path = "../src/supervisor/diagnosis.rs"]
mod diagnosis;
#[path = "../src/sys.rs"]
mod sys;
