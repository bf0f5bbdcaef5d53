//! The packet filter tables: what is in them, and how that is said to the kernel.
//!
//! [`sets`] and [`table`] are pure and know the elements; [`skeleton`] and [`expr`] are pure and know the fixed rules;
//! [`octets`] are keys and values; [`message`] writes nf_tables messages. Nothing here opens a socket: [`crate::kernel`] sends the bytes.

pub mod expr;
pub mod message;
pub mod octets;
pub mod sets;
pub mod skeleton;
pub mod stamp;
pub mod table;

pub use octets::Octets;
pub use sets::{Field, Scope, Set};
pub use table::{Draft, Elements, Key, TableChange, TableState, Value};
